"""Which categories of a model and of a corpus are the same emotion, however each of them spells it.

Names are compared as they are, then without regard to case, spaces, hyphens and underscores, then by `SYNONYMS`: other
word forms and the usual abbreviations of one emotion. Different emotions are never put together (`calm` is not
`neutral`, `excitement` not `happiness`) unless a `--category_map` says so.
"""

import collections
import dataclasses
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from emojax.errors import ConfigError
from emojax.types import MISSING_EMOTION

SYNONYMS = {
    "amusement": ("amused",),
    "anger": ("angry", "ang"),
    "anxiety": ("anxious",),
    "boredom": ("bored", "bor"),
    "calm": ("calmness",),
    "confusion": ("confused",),
    "contempt": ("contemptuous", "con"),
    "disappointment": ("disappointed",),
    "disgust": ("disgusted", "dis"),
    "excitement": ("excited", "exc"),
    "fear": ("fearful", "afraid", "fea"),
    "frustration": ("frustrated", "fru"),
    "happiness": ("happy", "joy", "joyful", "hap"),
    "neutral": ("neutrality", "neu"),
    "other": ("others", "oth"),
    "sadness": ("sad",),
    "sleepiness": ("sleepy",),
    "surprise": ("surprised", "sur"),
}
"""Emotions by the name used here, and other names of the same emotion."""

MIN_CATEGORIES = 2
"""Categories that must be shared: with one there is nothing to tell apart."""

_CANONICAL = {other: name for name, others in SYNONYMS.items() for other in others}


@dataclasses.dataclass(frozen=True)
class CategoryMatch:
    """What is scored where a model and a corpus have categories of their own.

    Attributes:
      model: the model's categories.
      corpus: the corpus's.
      scored: names of the categories that both have: the corpus's; joined by `+` where a map puts several together.
      in_model: for each scored category the numbers of the model's that it stands for, whose probabilities are added.
      in_corpus: the same of the corpus.
    """

    model: tuple[str, ...]
    corpus: tuple[str, ...]
    scored: tuple[str, ...]
    in_model: tuple[tuple[int, ...], ...]
    in_corpus: tuple[tuple[int, ...], ...]

    @property
    def usable(self) -> bool:
        """Whether enough categories are shared for a score."""
        return len(self.scored) >= MIN_CATEGORIES

    @property
    def mapping(self) -> dict[str, list[str]]:
        """The model's categories by the corpus's category that they are compared with."""
        pairs = zip(self.in_corpus, self.in_model, strict=True)
        return {self.corpus[theirs]: [self.model[n] for n in ours] for group, ours in pairs for theirs in group}

    @property
    def only_in_corpus(self) -> list[str]:
        """Categories that the model cannot predict."""
        return [name for name in self.corpus if name not in self.mapping]

    @property
    def only_in_model(self) -> list[str]:
        """Categories that the corpus does not have; their probability is divided over the others."""
        return [name for number, name in enumerate(self.model) if number not in self.used]

    @property
    def used(self) -> list[int]:
        """Numbers of the model's categories that are scored, ascending."""
        return sorted(number for group in self.in_model for number in group)

    def probabilities(self, used: Float[np.ndarray, "N U"]) -> Float[np.ndarray, "N C"]:
        """Probabilities of the scored categories from those of the model's categories `used`."""
        columns = {number: column for column, number in enumerate(self.used)}
        return np.stack([used[:, [columns[number] for number in group]].sum(axis=1) for group in self.in_model], axis=1)

    def corpus_labels(self, emotions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Numbers of scored categories from those of the corpus; -1 for utterances that are left out."""
        return _renumbered(emotions, self.in_corpus, len(self.corpus))

    def model_labels(self, emotions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """The same from numbers of the model's categories."""
        return _renumbered(emotions, self.in_model, len(self.model))

    def __str__(self) -> str:
        """One line: what is compared under different names, and what either side lacks."""
        renamed = [f"{theirs} = {'+'.join(ours)}" for theirs, ours in self.mapping.items() if ours != [theirs]]
        parts = [f"{', '.join(renamed)} (corpus = model)"] if renamed else []
        for place, names in (("corpus", self.only_in_corpus), ("model", self.only_in_model)):
            if names:
                parts.append(f"only in the {place}: {', '.join(names)}")
        return "; ".join(parts)


def match_categories(
    model: Sequence[str], corpus: Sequence[str], category_map: Sequence[tuple[str, str]] = ()
) -> CategoryMatch:
    """Finds the categories that a model and a corpus share.

    Args:
      model: the model's categories.
      corpus: the corpus's.
      category_map: pairs of a category of the corpus and one of the model, or "" to leave the corpus's category out.
        A category named here is matched by these pairs alone. Several of the corpus may go with one of the model, and
        the other way round.

    Raises:
      ConfigError: the map names a category that is not there, or does not say clearly what belongs together.
    """
    named: dict[str, set[str]] = {}
    for theirs, ours in category_map:
        wanted = named.setdefault(_named(theirs, corpus, "corpus"), set())
        wanted |= {_named(ours, model, "model")} if ours else set()
    found = {theirs: tuple(name for name in model if name in wanted) for theirs, wanted in named.items()}
    groups: dict[str, tuple[str, ...]] = {}  # the group of each category of the model that is in one
    for theirs, group in found.items():
        if any(groups.get(name, group) != group for name in group):
            raise ConfigError(f"--category_map: {theirs!r} overlaps with other pairs; allowed: groups that are apart")
        groups |= dict.fromkeys(group, group)
    for theirs, ours in same_categories([name for name in corpus if name not in found], model).items():
        found[theirs] = groups.get(ours, (ours,))
    members: dict[tuple[str, ...], list[str]] = {}
    for theirs in corpus:
        if found.get(theirs):
            members.setdefault(found[theirs], []).append(theirs)
    return CategoryMatch(
        model=tuple(model),
        corpus=tuple(corpus),
        scored=tuple("+".join(names) for names in members.values()),
        in_model=tuple(tuple(list(model).index(name) for name in group) for group in members),
        in_corpus=tuple(tuple(list(corpus).index(name) for name in names) for names in members.values()),
    )


def same_categories(names: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """The one of `others` that is the same emotion, by name; names without one, or with several, are left out."""
    found: dict[str, str] = {}
    for key in (str, _folded, _canonical):
        ours = _by_key([name for name in names if name not in found], key)
        theirs = _by_key([name for name in others if name not in found.values()], key)
        for shared in ours.keys() & theirs.keys():
            if len(ours[shared]) == len(theirs[shared]) == 1:
                found[ours[shared][0]] = theirs[shared][0]
    return {name: found[name] for name in names if name in found}


def parse_category_map(pairs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs from texts `THEIRS:OURS`.

    Raises:
      ConfigError: a text is no such pair.
    """
    parsed = []
    for text in pairs:
        theirs, colon, ours = (part.strip() for part in text.partition(":"))
        if not theirs or not colon:
            raise ConfigError(
                f"--category_map: {text!r} is no pair; allowed: THEIRS:OURS,... with a category of the corpus and one "
                "of the model, or THEIRS: to leave it out"
            )
        parsed.append((theirs, ours))
    return tuple(parsed)


def _named(name: str, names: Sequence[str], side: str) -> str:
    for key in (str, _folded):
        same = [known for known in names if key(known) == key(name)]
        if len(same) == 1:
            return same[0]
    raise ConfigError(f"--category_map: {name!r} is no category of the {side}; allowed: {', '.join(names) or 'none'}")


def _renumbered(emotions: np.ndarray, groups: Sequence[Sequence[int]], size: int) -> np.ndarray:
    numbers = np.full(size + 1, MISSING_EMOTION)  # the last entry is that of a missing emotion
    for number, group in enumerate(groups):
        numbers[list(group)] = number
    return numbers[emotions]


def _by_key(names: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        grouped[key(name)].append(name)
    return grouped


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in text if character not in " -_\t")


def _canonical(name: str) -> str:
    folded = _folded(name)
    return _CANONICAL.get(folded, folded)
