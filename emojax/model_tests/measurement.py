"""One model on the utterances of one split: its outputs, each computed once, and what of them can be scored."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from emojax.audio.clip_degradations import Degradation, unchanged
from emojax.evaluation import Predictions, match_categories
from emojax.metrics import confusion_matrix, uar
from emojax.metrics.scores import ccc
from emojax.model_tests.config import ModelTestsConfig
from emojax.model_tests.model import Clip, Model, Outputs, checked_outputs, joined
from emojax.model_tests.utterances import Utterances
from emojax.progress import Progress
from emojax.types import ATTRIBUTES, MISSING_EMOTION

CLIPS_AT_ONCE = 256
"""Clips in memory at a time."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """A degradation of the input.

    Attributes:
      name: name in results, unique.
      degrade: the degradation.
      missing: reason why it cannot be applied here; "" if it can.
    """

    name: str
    degrade: Degradation
    missing: str = ""


class Measurement:
    """Outputs of a model on the utterances of a split, undegraded and degraded.

    Attributes:
      model: model under test.
      utterances: utterances it is tested on.
      config: thresholds and settings.
      match: match of the categories of model and corpus.
      drawn: indices of the utterances that are degraded.
      progress: shown progress, with the name of the condition; None: not shown.
    """

    def __init__(
        self,
        model: Model,
        utterances: Utterances,
        config: ModelTestsConfig,
        category_map: Sequence[tuple[str, str]] = (),
    ):
        """Computes nothing yet.

        Raises:
          ConfigError: the map of categories does not fit.
        """
        self.model, self.utterances, self.config = model, utterances, config
        self.match = match_categories(model.categories, utterances.info.categories, category_map)
        limit = config.robustness.utterances
        random = np.random.default_rng(config.seed)
        drawn = random.permutation(len(utterances))[:limit] if len(utterances) > limit else np.arange(len(utterances))
        self.drawn = np.sort(drawn)
        self.progress: Progress | None = None
        self._clean: Outputs | None = None
        self._degraded: dict[str, Outputs] = {}

    @property
    def clean(self) -> Outputs:
        """Outputs for all utterances, undegraded."""
        if self._clean is None:
            self._clean = self._predict(np.arange(len(self.utterances)), Condition("undegraded", unchanged))
        return self._clean

    def degraded(self, condition: Condition) -> Outputs:
        """Outputs for the utterances `drawn` in a condition; computed once per name of a condition."""
        if condition.name not in self._degraded:
            self._degraded[condition.name] = self._predict(self.drawn, condition)
        return self._degraded[condition.name]

    def predict(self, clips: Sequence[Clip]) -> Outputs:
        """Outputs for other clips than those of the split."""
        return checked_outputs(self.model, clips)

    def _predict(self, rows: Int[np.ndarray, "D"], condition: Condition) -> Outputs:
        parts = []
        for start in range(0, len(rows), CLIPS_AT_ONCE):
            if self.progress is not None:
                self.progress.advance(0, f"{condition.name}: {start} of {len(rows)} utterances")
            clips = self.utterances.read(rows[start : start + CLIPS_AT_ONCE].tolist())
            ids, waveforms = [clip.id for clip in clips], [clip.waveform for clip in clips]
            changed = condition.degrade(waveforms, ids, self.config.seed)
            clips = [dataclasses.replace(clip, waveform=new) for clip, new in zip(clips, changed, strict=True)]
            parts.append(checked_outputs(self.model, clips))
        return joined(parts)

    # What can be scored

    @property
    def why_no_attributes(self) -> str:
        """Reason why no attribute is scored; "" if one is."""
        if not any(self.model.predicted):
            return "the model predicts no attributes"
        if not self.rated.any():
            return "the split has no attribute labels"
        return "" if self.scored_attributes else "no labelled attribute is predicted by the model"

    @property
    def why_no_emotion(self) -> str:
        """Reason why categories are not scored; "" if they are."""
        if not self.model.categories:
            return "the model has no categories"
        if not self.utterances.info.categories:
            return "the corpus has no categories"
        if not self.match.usable:
            return f"model and corpus share {len(self.match.scored)} categories, at least 2 are needed"
        return "" if (self.emotion != MISSING_EMOTION).any() else "the split has no labels of these categories"

    @property
    def rated(self) -> np.ndarray:
        """Which attributes have labels, (3,)."""
        return ~np.isnan(self.utterances.attributes).all(axis=0)

    @property
    def scored_attributes(self) -> list[tuple[str, int]]:
        """Name and column of every attribute that is both predicted and labelled."""
        scored = np.array(self.model.predicted) & self.rated
        return [(name, column) for column, name in enumerate(ATTRIBUTES) if scored[column]]

    @property
    def predicted_attributes(self) -> list[tuple[str, int]]:
        """Name and column of every attribute that is predicted."""
        return [(name, column) for column, name in enumerate(ATTRIBUTES) if self.model.predicted[column]]

    @property
    def emotion(self) -> Int[np.ndarray, "N"]:
        """Labels as indices into the scored categories, `match.scored`; -1 where missing."""
        return self.match.corpus_labels(self.utterances.emotion)

    def predicted_emotion(self, outputs: Outputs) -> Int[np.ndarray, "N"]:
        """Most probable of the scored categories."""
        return self.match.probabilities(outputs.probabilities[:, self.match.used]).argmax(axis=1)

    def predictions(self) -> Predictions:
        """Undegraded predictions and labels on [0, 1], e.g. for plots."""
        has_emotion = not self.why_no_emotion
        info = dataclasses.replace(self.utterances.info, scale=(0.0, 1.0))
        probabilities = np.zeros((len(self.utterances), 0))
        if has_emotion:
            info = dataclasses.replace(info, categories=self.match.scored)
            used = self.clean.probabilities[:, self.match.used]
            probabilities = self.match.probabilities(used / np.maximum(used.sum(axis=1, keepdims=True), 1e-12))
        return Predictions(
            corpus=info,
            split=self.utterances.split,
            ids=self.utterances.ids,
            speakers=self.utterances.speakers,
            attributes=self.clean.attributes,
            attribute_labels=self.utterances.attributes,
            emotion_probabilities=probabilities,
            emotion_labels=self.emotion if has_emotion else self.utterances.emotion,
            match=self.match if has_emotion else None,
        )


def ccc_of(predictions: Float[np.ndarray, "N"], labels: Float[np.ndarray, "N"]) -> float:
    """CCC of one attribute; NaN with fewer than two labels."""
    return float(ccc(predictions[:, None], labels[:, None])[0])


def uar_of(predictions: Int[np.ndarray, "N"], labels: Int[np.ndarray, "N"], categories: int) -> float:
    """UAR over categories; NaN without labels."""
    return float(uar(confusion_matrix(predictions, labels, categories)))
