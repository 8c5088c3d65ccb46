"""Matches the categories of a model with those of a corpus by name.

Names are compared exactly, then without regard to case, spaces, hyphens and underscores, then by `SYNONYMS`: other word
forms and common abbreviations of one emotion. Different emotions are only merged by a `--category_map` (`calm` is not
`neutral`, `excitement` not `happiness`).
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
"""Canonical name of an emotion -> other names of it."""

MIN_CATEGORIES = 2
"""Least number of shared categories: one cannot be classified."""

_CANONICAL = {other: name for name, others in SYNONYMS.items() for other in others}


@dataclasses.dataclass(frozen=True)
class CategoryMatch:
    """Match between the categories of a model and of a corpus.

    Attributes:
      model: categories of the model.
      corpus: categories of the corpus.
      scored: names of the shared categories, as the corpus has them; joined by `+` if a map merges several.
      in_model: for each scored category, indices of the model's categories, whose probabilities are added.
      in_corpus: for each scored category, indices of the corpus's categories.
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
        """Category of the corpus -> categories of the model that it is scored against."""
        pairs = zip(self.in_corpus, self.in_model, strict=True)
        return {self.corpus[theirs]: [self.model[n] for n in ours] for group, ours in pairs for theirs in group}

    @property
    def only_in_corpus(self) -> list[str]:
        """Categories that the model cannot predict."""
        return [name for name in self.corpus if name not in self.mapping]

    @property
    def only_in_model(self) -> list[str]:
        """Categories that the corpus does not have; their probability is distributed over the others."""
        return [name for number, name in enumerate(self.model) if number not in self.used]

    @property
    def used(self) -> list[int]:
        """Indices of the model's categories that are scored, ascending."""
        return sorted(number for group in self.in_model for number in group)

    def probabilities(self, used: Float[np.ndarray, "N U"]) -> Float[np.ndarray, "N C"]:
        """Probabilities of the scored categories, from those of the model's categories `used`."""
        columns = {number: column for column, number in enumerate(self.used)}
        return np.stack([used[:, [columns[number] for number in group]].sum(axis=1) for group in self.in_model], axis=1)

    def corpus_labels(self, emotions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Indices of scored categories from those of the corpus; -1 for utterances that are not scored."""
        return _renumbered(emotions, self.in_corpus, len(self.corpus))

    def model_labels(self, emotions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Indices of scored categories from those of the model; -1 for utterances that are not scored."""
        return _renumbered(emotions, self.in_model, len(self.model))

    def __str__(self) -> str:
        """One line: categories matched under different names, and categories of one side only."""
        renamed = [f"{theirs} = {'+'.join(ours)}" for theirs, ours in self.mapping.items() if ours != [theirs]]
        parts = [f"{', '.join(renamed)} (corpus = model)"] if renamed else []
        for side, names in (("corpus", self.only_in_corpus), ("model", self.only_in_model)):
            if names:
                parts.append(f"only in the {side}: {', '.join(names)}")
        return "; ".join(parts)


def match_categories(
    model: Sequence[str], corpus: Sequence[str], category_map: Sequence[tuple[str, str]] = ()
) -> CategoryMatch:
    """Finds the categories that a model and a corpus share.

    Args:
      model: categories of the model.
      corpus: categories of the corpus.
      category_map: pairs of a category of the corpus and one of the model, or "" to skip the category of the corpus.
        A category named here is matched by these pairs alone. Several categories of the corpus may be matched with
        one of the model, and the reverse.

    Raises:
      ConfigError: the map names an unknown category, or its groups overlap.
    """
    named: dict[str, set[str]] = {}
    for theirs, ours in category_map:
        wanted = named.setdefault(_named(theirs, corpus, "corpus"), set())
        wanted |= {_named(ours, model, "model")} if ours else set()
    found = {theirs: tuple(name for name in model if name in wanted) for theirs, wanted in named.items()}
    groups: dict[str, tuple[str, ...]] = {}  # category of the model -> its group
    for theirs, group in found.items():
        if any(groups.get(name, group) != group for name in group):
            raise ConfigError(
                f"--category_map: the groups of categories must not overlap, got {theirs!r} in two of them"
            )
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
    """Name -> the one of `others` that is the same emotion; names without a match, or with several, are absent."""
    found: dict[str, str] = {}
    for key in (str, _folded, _canonical):
        ours = _by_key([name for name in names if name not in found], key)
        theirs = _by_key([name for name in others if name not in found.values()], key)
        for shared in ours.keys() & theirs.keys():
            if len(ours[shared]) == len(theirs[shared]) == 1:
                found[ours[shared][0]] = theirs[shared][0]
    return {name: found[name] for name in names if name in found}


def parse_category_map(pairs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Parses texts `THEIRS:OURS` into pairs.

    Raises:
      ConfigError: a text is not such a pair.
    """
    parsed = []
    for text in pairs:
        theirs, colon, ours = (part.strip() for part in text.partition(":"))
        if not theirs or not colon:
            raise ConfigError(
                "--category_map must be THEIRS:OURS,... with a category of the corpus and one of the model, or THEIRS: "
                f"to skip it, got {text!r}"
            )
        parsed.append((theirs, ours))
    return tuple(parsed)


def _named(name: str, names: Sequence[str], side: str) -> str:
    for key in (str, _folded):
        same = [known for known in names if key(known) == key(name)]
        if len(same) == 1:
            return same[0]
    raise ConfigError(
        f"--category_map must name categories of the {side} ({', '.join(names) or 'it has none'}), got {name!r}"
    )


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
