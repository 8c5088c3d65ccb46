"""Reader of IEMOCAP's utterances by session."""

import collections
import dataclasses
import math
from pathlib import Path

from emojax.errors import CorpusError
from emojax.text_files import find_folder, listing
from emojax.types import MISSING_EMOTION, SplitAssignment
from tfds_builders.iemocap.labels import CATEGORIES, Turn, read_evaluation, read_transcription
from tfds_builders.utterance import Made, read_pcm, utterance

SESSIONS = tuple(f"session{number}" for number in range(1, 6))

FOUR = ("anger", "happiness", "sadness", "neutral")
"""The usual four classes: excitement is merged with happiness, other categories are skipped."""

_PUBLISHED = {"all": 10_039, "four": 5_531}
_PUBLISHED_FOUR = dict(zip(SESSIONS, (1_085, 1_023, 1_151, 1_031, 1_241), strict=True))

FOLDS = tuple(
    SplitAssignment(
        "+".join(SESSIONS[(test + 2 + i) % 5] for i in range(3)), SESSIONS[(test + 1) % 5], (SESSIONS[test],)
    )
    for test in range(5)
)
"""Fold N has session N as test split, the next one as validation split and the other three as training split."""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance.

    Attributes:
      audio: audio file.
      turn: labels.
      transcript: words; "" if unknown.
      four: whether categories are the four classes.
    """

    audio: Path
    turn: Turn
    transcript: str
    four: bool

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories."""
        return FOUR if self.four else CATEGORIES


def read_sessions(
    manual_dir: Path, four: bool, improvised: bool, counts: collections.Counter[str], sources: list[Path]
) -> dict[str, list[Utterance]]:
    """Reads the utterances by session.

    Args:
      manual_dir: folder that holds Session1 to Session5, or its parent.
      four: whether to use the four classes only.
      improvised: whether to use improvised conversations only.
      counts: counter of missing and skipped items, updated in place.
      sources: list of files that were read or looked for, extended in place.

    Raises:
      CorpusError: the folder is not IEMOCAP, or a file has another format.
    """
    root = _root(manual_dir)
    sessions = {}
    for session in SESSIONS:
        folder = find_folder(root, (session,))
        if folder is None:
            raise CorpusError(f"{root}: no folder {session.capitalize()}; found {listing(root)}")
        sessions[session] = _session(folder, four, improvised, counts, sources)
    _compare(sessions, four, improvised, counts)
    return sessions


def make_utterance(item: Utterance) -> Made:
    """Decodes an utterance; utterances that cannot be decoded are skipped and counted."""
    try:
        audio = read_pcm(item.audio)
    except CorpusError as error:
        return Made(None, ("corrupt_audio",), str(error))
    turn = item.turn
    counted = [] if item.transcript else ["no_transcript"]
    if turn.emotion == MISSING_EMOTION:
        counted.append("no_agreement")
    if any(value < 1 or value > 5 for value in turn.attributes):
        counted.append("rating_beyond_scale")
    example = utterance(
        id=turn.name,
        audio=audio,
        num_categories=len(item.categories),
        transcript=item.transcript,
        attributes=turn.attributes,
        attributes_std=turn.std,
        emotion=item.categories.index(_four(turn)) if item.four else turn.emotion,
        emotion_votes=_four_votes(turn.votes) if item.four else turn.votes,
        attributes_histogram=turn.histogram,
        speaker=turn.speaker,
        gender={"F": "female", "M": "male"}.get(turn.speaker[-1], ""),
    )
    return Made(example, tuple(counted))


def _root(manual_dir: Path) -> Path:
    inside = [path for path in sorted(manual_dir.iterdir()) if path.is_dir()]
    for root in (manual_dir, *inside):
        if find_folder(root, ("session1",)):
            return root
    raise CorpusError(
        f"{manual_dir}: not IEMOCAP; looked for folders Session1 to Session5 there and one level below; "
        f"found {listing(manual_dir)}"
    )


def _session(
    folder: Path, four: bool, improvised: bool, counts: collections.Counter[str], sources: list[Path]
) -> list[Utterance]:
    evaluations = folder / "dialog" / "EmoEvaluation"
    if not evaluations.is_dir():
        raise CorpusError(f"{folder}: no folder dialog/EmoEvaluation; found {listing(folder)}")
    found = []
    for path in sorted(evaluations.glob("*.txt")):
        if path.name.startswith("._"):
            continue
        words_path = folder / "dialog" / "transcriptions" / path.name
        sources += [path, words_path]
        words = read_transcription(words_path) if words_path.is_file() else {}
        for turn in read_evaluation(path):
            audio = folder / "sentences" / "wav" / turn.dialog / f"{turn.name}.wav"
            sources.append(audio)
            if improvised and not turn.improvised:
                counts["skipped_scripted"] += 1
            elif four and _four(turn) not in FOUR:
                counts["skipped_other_category"] += 1
            elif not audio.is_file():
                counts["without_audio"] += 1
            else:
                found.append(Utterance(audio, turn, words.get(turn.name, ""), four))
    return found


def _four(turn: Turn) -> str:
    name = CATEGORIES[turn.emotion] if turn.emotion != MISSING_EMOTION else ""
    return "happiness" if name == "excitement" else name


def _four_votes(votes: tuple[float, ...]) -> tuple[float, ...]:
    """Renormalises votes over the four classes; NaN without votes for them."""
    named = dict(zip(CATEGORIES, votes, strict=True))
    named["happiness"] += named["excitement"]
    total = sum(named[name] for name in FOUR)
    return tuple(named[name] / total if total > 0 else math.nan for name in FOUR)


def _compare(
    sessions: dict[str, list[Utterance]], four: bool, improvised: bool, counts: collections.Counter[str]
) -> None:
    if improvised:
        return  # no published figure
    published = dict(_PUBLISHED_FOUR) if four else {}
    published["all"] = _PUBLISHED["four" if four else "all"]
    sizes = {session: len(found) for session, found in sessions.items()}
    sizes["all"] = sum(sizes.values())
    for name, expected in published.items():
        difference = sizes[name] - expected
        if difference:
            counts[f"{name}_{'more' if difference > 0 else 'fewer'}_than_published"] += abs(difference)
