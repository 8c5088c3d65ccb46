"""Annotations and models whose outputs follow from how they are made, for the tests of `--mode=annotate`."""

import types

import numpy as np
from hypothesis import strategies as st

from emojax.annotation.annotation import Annotation, ModelDescription, Segment, Track
from emojax.inference.distributions import RatingDistribution
from emojax.inference.predictor import Prediction
from emojax.recognition.transcript import Word
from emojax.types import ATTRIBUTES, CorpusInfo

CATEGORIES = ("anger", "joy")
DESCRIPTION = ModelDescription("double", "toy/1.0.0", (1.0, 7.0), ATTRIBUTES, CATEGORIES, "recorded")
PLAIN = ModelDescription("double", "toy/1.0.0", (1.0, 7.0), ATTRIBUTES, (), "recorded")


def make_annotation(segments=(), duration=20.0, description=DESCRIPTION, file="talk.wav"):
    times = np.arange(1.5, max(duration - 1.5, 1.6), 0.5)
    values = np.where(np.arange(len(times)) % 3 == 0, np.nan, 4.0 + 0.01 * np.arange(len(times)))
    track = Track(3.0, 0.5, times, dict.fromkeys(description.attributes, values), None)
    return Annotation(file, duration, description, tuple(segments), track, np.arange(200, dtype=np.uint8), 0, "k")


def make_segment(start, end, speaker=None, transcript=None, words=None, categories=True):
    attributes = {"activation": 4.25, "valence": 3.125, "dominance": 4.0}
    probabilities = {"anger": 0.75, "joy": 0.25} if categories else None
    return Segment(start, end, speaker, attributes, None, probabilities, transcript, words)


TEXTS = st.text(st.sampled_from("aé漢=\"'<>&-|; \n\t\r\x00\x1b\x7f\u2028\ufeff"), max_size=8)
"""Texts with quotes, tags, arrows, controls, line breaks."""


@st.composite
def annotations(draw):
    """Annotations with segments that do not overlap, in ms, with awkward texts and times of words."""
    edges = sorted(draw(st.sets(st.integers(0, 60_000), max_size=8)))
    segments = []
    for start, end in zip(edges[::2], edges[1::2], strict=False):
        ends = sorted(draw(st.lists(st.integers(start, end), max_size=3)))
        words = tuple(
            Word(draw(TEXTS), first / 1000, last / 1000, 0.5)
            for first, last in zip([start, *ends[:-1]], ends, strict=False)
        )
        speaker = draw(st.none() | TEXTS)
        segments.append(make_segment(start / 1000, end / 1000, speaker, draw(st.none() | TEXTS), words))
    return make_annotation(segments, duration=61.0)


class ModelDouble:
    """Activation is the mean of the samples; valence has a distribution of ratings if asked for."""

    min_samples = 400
    takes_transcripts = False

    def __init__(self, categories=CATEGORIES, distributions=False, name="double"):
        self.corpus = CorpusInfo("toy/1.0.0", (1.0, 7.0), tuple(categories), "recorded", "rated", "CC0-1.0", "nobody")
        self._distributions = distributions
        self.seen = []
        outputs = types.SimpleNamespace(attributes=(True,) * 3, categories=bool(categories))
        self.trained = types.SimpleNamespace(outputs=outputs, digest=name)

    def predict(self, items, rate=None, transcripts=None):
        found = []
        for number, (samples, _) in enumerate(items):
            self.seen.append((len(samples), None if transcripts is None else transcripts[number]))
            value = float(np.mean(samples))
            attributes = dict.fromkeys(ATTRIBUTES, value)
            emotions = {name: 1.0 / (1 + place) for place, name in enumerate(self.corpus.categories)}
            ratings = {}
            if self._distributions:
                ratings = dict.fromkeys(ATTRIBUTES, RatingDistribution((value - 1, value + 1), (0.5, 0.5)))
            found.append(Prediction(attributes, emotions, np.zeros(2, np.float32), ratings))
        return found


def bursts(seconds, spans, level=0.5, seed=0):
    """Noise at `level` between the start and end (s) of spans, elsewhere 60 dB below it; 16 kHz."""
    random = np.random.default_rng(seed)
    samples = 0.001 * level * random.standard_normal(int(seconds * 16_000))
    for start, end in spans:
        part = slice(int(start * 16_000), int(end * 16_000))
        samples[part] += level * random.standard_normal(part.stop - part.start)
    return np.clip(samples, -1, 1).astype(np.float32)
