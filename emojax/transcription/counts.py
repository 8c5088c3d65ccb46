"""Counts of a store's transcripts: empty ones, loops, low confidence, word errors."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

LOW_CONFIDENCE = -1.0
"""Mean log-probability below which a transcript counts as one of low confidence (Radford et al. 2023, section 4.5)."""


@dataclasses.dataclass(frozen=True)
class TranscriptCounts:
    """Counts of the transcripts of a split.

    Attributes:
      utterances: all of them.
      empty: those without text.
      looped: those that repetitions were cut from.
      low_confidence: those whose mean log-probability is below `LOW_CONFIDENCE`.
      reference_words: words of the corpus's own transcripts.
      word_errors: substitutions, deletions and insertions against them.
    """

    utterances: int
    empty: int
    looped: int
    low_confidence: int
    reference_words: int
    word_errors: int

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]]) -> "TranscriptCounts":
        """Counts the lines of a store (`emojax.feature_store.read_lines`)."""
        counts = dict.fromkeys((field.name for field in dataclasses.fields(cls)), 0)
        for line in lines:
            mean = line.get("log_probability")
            counts["utterances"] += 1
            counts["empty"] += not line["text"].strip()
            counts["looped"] += bool(line.get("loops"))
            counts["low_confidence"] += mean is not None and mean < LOW_CONFIDENCE
            counts["reference_words"] += line.get("reference_words", 0)
            counts["word_errors"] += line.get("word_errors", 0)
        return cls(**counts)

    @property
    def word_error_rate(self) -> float | None:
        """Word errors per word of the reference; None where the corpus has no transcripts."""
        return self.word_errors / self.reference_words if self.reference_words else None

    def to_tree(self) -> dict[str, Any]:
        """Values for `summary.json`."""
        return {**dataclasses.asdict(self), "word_error_rate": self.word_error_rate}

    def __str__(self) -> str:
        rate = self.word_error_rate
        error = "" if rate is None else f"; word error rate {100 * rate:.1f} % of {self.reference_words} words"
        return (
            f"{self.utterances} transcripts, {self.empty} empty, {self.looped} with loops cut, "
            f"{self.low_confidence} of low confidence (mean log-probability < {LOW_CONFIDENCE:g}){error}"
        )
