"""Models whose results in the model tests follow from how they are made, and utterances in memory."""

import dataclasses

import numpy as np

from emojax.model_tests import Clip, Outputs, Utterances
from emojax.model_tests.utterances import GROUPINGS
from emojax.types import CorpusInfo

MIN_SAMPLES = 400


def in_memory(info, clips, attributes=None, emotion=None, speakers=None, sexes=None, **groups):
    """Utterances of a split "test" from clips; labels are on [0, 1]."""
    n = len(clips)
    found = {grouping: [""] * n for grouping in GROUPINGS} | {"sex": list(sexes or [""] * n)} | groups
    return Utterances(
        info=info,
        split="test",
        ids=[clip.id for clip in clips],
        speakers=list(speakers or [""] * n),
        attributes=np.full((n, 3), np.nan) if attributes is None else attributes,
        emotion=np.full(n, -1) if emotion is None else np.asarray(emotion),
        groups=found,
        read=lambda rows: [clips[row] for row in rows],
    )


def toy_info(categories=(), attribute_source="rated"):
    return CorpusInfo("toy/1.0.0", (0.0, 1.0), tuple(categories), "recorded", attribute_source, "CC0-1.0", "nobody")


def noise_clips(n, samples=3200, seed=0):
    random = np.random.default_rng(seed)
    return [Clip(f"clip{i}", (0.1 * random.standard_normal(samples)).astype(np.float32)) for i in range(n)]


@dataclasses.dataclass
class Double:
    """A model of the utterances' ids: `attributes` (N, 3) or None, `emotion` (N,) or None, in their order.

    Clips of other ids (sentences of the test of linguistic sentiment) get 0.5 and the first category.
    """

    utterances: Utterances
    attributes: np.ndarray | None = None
    emotion: np.ndarray | None = None
    name: str = "double"
    min_samples: int = MIN_SAMPLES

    def __post_init__(self):
        self.predicted = (self.attributes is not None,) * 3
        self.categories = self.utterances.info.categories if self.emotion is not None else ()
        self._rows = {id: row for row, id in enumerate(self.utterances.ids)}

    def __call__(self, clips):
        rows = [self._rows.get(clip.id, -1) for clip in clips]
        attributes = np.full((len(clips), 3), np.nan)
        if self.attributes is not None:
            attributes = np.concatenate([self.attributes, np.full((1, 3), 0.5)])[rows]
        probabilities = np.zeros((len(clips), 0))
        if self.emotion is not None:
            probabilities = np.eye(len(self.categories))[np.append(self.emotion, 0)[rows]]
        return Outputs(attributes, probabilities)


@dataclasses.dataclass
class RandomDouble:
    """Draws anew for every clip and call."""

    categories: tuple = ()
    predicted: tuple = (True, True, True)
    name: str = "random"
    min_samples: int = MIN_SAMPLES
    seed: int = 0

    def __post_init__(self):
        self._random = np.random.default_rng(self.seed)

    def __call__(self, clips):
        n = len(clips)
        attributes = np.where(self.predicted, self._random.uniform(size=(n, 3)), np.nan)
        choices = self._random.integers(max(len(self.categories), 1), size=n)
        return Outputs(attributes, np.eye(len(self.categories))[choices] if self.categories else np.zeros((n, 0)))


@dataclasses.dataclass
class BandDouble:
    """Activation is proportional to the share of energy in the upper half of a band (Hz); level does not matter."""

    low: float
    high: float
    factor: float = 1.0
    name: str = "band"
    predicted: tuple = (True, False, False)
    categories: tuple = ()
    min_samples: int = MIN_SAMPLES

    def __call__(self, clips):
        attributes = np.full((len(clips), 3), np.nan)
        for row, clip in enumerate(clips):
            energies = np.square(np.abs(np.fft.rfft(clip.waveform)))
            frequencies = np.fft.rfftfreq(len(clip.waveform), 1 / 16_000)
            band = energies[(frequencies >= self.low) & (frequencies <= self.high)].sum()
            upper = energies[(frequencies >= (self.low + self.high) / 2) & (frequencies <= self.high)].sum()
            attributes[row, 0] = self.factor * upper / band
        return Outputs(attributes, np.zeros((len(clips), 0)))


def outcomes(results, status):
    """(test, output, metric, condition) of the results with a status."""
    return {(r.test, r.output, r.metric, r.condition) for r in results if r.status == status}


def failed_tests(results):
    """Names of the tests with a failed value."""
    return {r.test for r in results if r.status == "failed"}


def measured_tests(results):
    """Names of the tests with a measured value."""
    return {r.test for r in results if r.status != "skipped"}


BAND = BandDouble(300, 2000, name="band 300 to 2000 Hz")
"""A model that a command can import."""
