"""Heads at a regression: the informative layer gets the weight, predictions have the labels' spread."""

import numpy as np
import pytest

from emojax.training.linear_heads import regress_attribute, regress_categories
from emojax.training.linear_models import held_out_speakers


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    layers = rng.normal(size=(160, 3, 12))
    labels = 0.5 + 0.1 * layers[:, 1, 0] + 0.05 * rng.normal(size=160)
    labels[::9] = np.nan
    emotion = layers[:, 2, :3].argmax(axis=1)
    emotion[::11] = -1
    speakers = np.repeat([f"s{number}" for number in range(8)], 20)
    return layers, labels, emotion, held_out_speakers(speakers, np.tile(labels[:, None], 3), emotion)


def test_held_out_speakers_divide_the_utterances(example):
    assert (np.sum(example[-1], axis=0) == 1).all()
    alone = held_out_speakers(np.full(10, "a"), np.zeros((10, 3)), np.zeros(10, int))
    assert (np.sum(alone, axis=0) == 1).all()


def test_attributes_use_the_layer_with_the_information_and_keep_the_spread(example):
    layers, labels, _, held_out = example
    weights, intercept = regress_attribute(layers, labels, held_out)
    predicted, known = layers.reshape(160, -1) @ weights + intercept, ~np.isnan(labels)
    assert np.corrcoef(predicted[known], labels[known])[0, 1] > 0.85
    assert predicted[known].std() == pytest.approx(labels[known].std(), rel=0.15)
    norms = np.linalg.norm(weights.reshape(3, 12), axis=1)
    assert norms[1] > 10 * max(norms[0], norms[2])


def test_categories_use_the_layer_with_the_information(example):
    layers, _, emotion, held_out = example
    kernel, bias = regress_categories(layers, emotion, 3, held_out)
    known = emotion >= 0
    assert ((layers.reshape(160, -1) @ kernel + bias).argmax(axis=1) == emotion)[known].mean() > 0.9
    norms = np.linalg.norm(kernel.reshape(3, -1), axis=1)
    assert norms[2] > 10 * max(norms[0], norms[1])
