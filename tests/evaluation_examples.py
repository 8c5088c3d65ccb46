"""Predictions and workdirs made up for the tests of evaluation and report."""

import functools
import json
from pathlib import Path

import numpy as np

from emojax.evaluation import Predictions, TrainLabels, summarise
from emojax.types import MISSING_EMOTION, CorpusInfo

PNG = b"\x89PNG\r\n\x1a\n"  # what a PNG file begins with
CATEGORIES = ("anger", "neutral", "sadness")


def corpus(name="toy/default/1.0.0", categories=CATEGORIES, speech="recorded", attribute_source="rated"):
    return CorpusInfo(name, (1.0, 7.0), categories, speech, attribute_source, "CC0-1.0", "nobody")


def predictions(n=60, num_speakers=6, info=None, attributes=True, emotions=True, seed=0, split="test"):
    """Activation is predicted well, valence less, dominance not at all, so that a mix-up of columns shows."""
    info = info or corpus()
    rng = np.random.default_rng(seed)
    num_categories = len(info.categories)
    labels = rng.uniform(2, 6, (n, 3))
    predicted = np.stack([labels[:, 0], (labels[:, 1] + 4) / 2, np.full(n, 4.0)], axis=1) + rng.normal(0, 0.2, (n, 3))
    emotion = rng.integers(num_categories, size=n)
    probabilities = rng.dirichlet(np.ones(num_categories), n)
    probabilities[np.arange(n), emotion] += 0.3
    emotion[0], labels[1, 1] = MISSING_EMOTION, np.nan
    return Predictions(
        corpus=info,
        split=split,
        ids=[f"clip{i}" for i in range(n)],
        speakers=[f"s{i % num_speakers}" if num_speakers else "" for i in range(n)],
        attributes=predicted if attributes else np.full((n, 3), np.nan),
        attribute_labels=labels if attributes else np.full((n, 3), np.nan),
        emotion_probabilities=probabilities if emotions else np.zeros((n, 0)),
        emotion_labels=emotion if emotions else np.full(n, MISSING_EMOTION),
    )


def train_labels(seed=1, size=200):
    rng = np.random.default_rng(seed)
    return TrainLabels(attributes=rng.uniform(2, 6, (size, 3)), emotions=rng.choice(3, size, p=[0.2, 0.5, 0.3]))


def write_workdir(path: Path, seed=0, evaluated=True, logged=False, **arguments) -> Path:
    """A workdir as training and evaluation leave it, but for the plots, which are slow to draw."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"seed": seed, "model": {"units": 8}}))
    (path / "summary.json").write_text(json.dumps({"parameters": 1_234_567, "seconds": 3930.0, "best_step": 20}))
    if logged:
        records = [{"step": step, "epoch": 1, "train/loss": 1 / step} for step in range(1, 30)]
        records += [{"step": step, "epoch": 1, "validation/ccc_valence": step / 50} for step in (10, 20)]
        (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if evaluated:
        write_scores(path / "evaluation", **{"seed": seed} | arguments)
    return path


def write_scores(directory: Path, train_seed=1, **arguments) -> None:
    directory.mkdir(exist_ok=True, parents=True)
    scores = _summary(train_seed, **arguments)
    (directory / f"{scores['split']}.json").write_text(json.dumps(scores))
    for what in ("attributes", "confusion"):
        (directory / f"{scores['split']}_{what}.png").write_bytes(PNG)


@functools.cache
def _summary(train_seed, **arguments):
    return summarise(predictions(**arguments), train_labels(train_seed), num_resamples=50)
