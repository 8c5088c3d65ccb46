"""How well can anyone do on emobank_spoken by ear? Prints two tables of test CCC.

    python -m tfds_builders emobank_spoken --config=full
    python -m benchmarks.emobank_ceiling --config=full

`prosody`: least squares from the drawn prosody itself (rate, pitch, range, level) to the ratings, which no model of the
sound can beat by much: the noise was added before. `ridge`: ridge regression on statistics of log-mel energies, F0 and
duration. Both fit on train and are scored on test, as fitted and with the predictions' spread stretched to that of the
training ratings, which is what training with a CCC loss does.
"""

import argparse
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emojax.data import open_corpus, open_split
from emojax.types import ATTRIBUTES, SAMPLE_RATE
from tfds_builders.emobank_spoken.prosody import draw_prosody, draw_speaker
from tfds_builders.emobank_spoken.sentences import read_sentences, subsample
from tfds_builders.emobank_spoken.speech import active_level_db

_WINDOW, _HOP, _FFT, _BANDS = 400, 160, 512, 40
_LOWEST_F0, _HIGHEST_F0 = 60.0, 450.0
_SIZES = {"full": {}, "quick": {"train": 3000, "dev": 500}}


class Table(NamedTuple):
    features: np.ndarray
    ratings: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="full", choices=sorted(_SIZES))
    parser.add_argument("--data_dir", default="")
    options = parser.parse_args()
    print(f"{'':<26}" + "".join(f"{name:>12}" for name in ATTRIBUTES) + "   (test CCC)")
    tables = {split: prosody_table(split, _SIZES[options.config].get(split)) for split in ("train", "test")}
    report("prosody", tables)
    report("prosody without level", {split: t._replace(features=t.features[:, :-1]) for split, t in tables.items()})
    corpus = open_corpus(f"emobank_spoken/{options.config}", options.data_dir)
    tables = {split: audio_table(corpus, split) for split in ("train", "test")}
    report("ridge", tables)
    # The first column is the level, the next are the means of the log-mel bands, less the level.
    shape = {s: t._replace(features=t.features[:, 1:] - _level_part(t.features)) for s, t in tables.items()}
    report("ridge without level", shape)


def prosody_table(split: str, size: int | None) -> Table:
    sentences = subsample([s for s in read_sentences() if s.split == split], size)
    drawn = [draw_prosody(s, draw_speaker(s, seed=0), seed=0) for s in sentences if s.has_words]
    features = [(np.log(p.rate), p.pitch, p.pitch_range, p.level_db) for p in drawn]
    return Table(np.array(features), np.array([s.attributes for s in sentences if s.has_words]))


def audio_table(corpus, split: str) -> Table:
    source = open_split(corpus, split, ("audio", "attributes"))
    rows = [(statistics(example["audio"]), example["attributes"]) for example in source]
    return Table(np.array([row[0] for row in rows]), np.array([row[1] for row in rows], np.float64))


def report(name: str, tables: dict[str, Table]) -> None:
    train, test = tables["train"], tables["test"]
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15)))
    model.fit(train.features, train.ratings)
    fitted, predicted = model.predict(train.features), model.predict(test.features)
    stretch = train.ratings.std(0) / fitted.std(0)
    stretched = train.ratings.mean(0) + stretch * (predicted - fitted.mean(0))
    for label, values in ((name, predicted), (f"{name}, stretched", stretched)):
        print(f"{label:<32}" + "".join(f"{ccc(values[:, i], test.ratings[:, i]):>9.3f}   " for i in range(3)))


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's concordance correlation coefficient."""
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def statistics(audio: np.ndarray) -> np.ndarray:
    """Level, mean, spread and speed of log-mel bands, F0 statistics, log duration: one row per utterance."""
    waveform = audio.astype(np.float32) / 2.0**15
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
