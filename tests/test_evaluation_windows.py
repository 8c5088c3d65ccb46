"""Window by window prediction, and what is written of splits without labels."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from emojax.evaluation.predictions import Predictions
from emojax.evaluation.windows import averaged, window_lengths, windowed
from emojax.evaluation.writing import write_evaluation
from emojax.types import Batch, CorpusInfo, EmotionOutput


def batch(lengths, samples):
    rows = len(lengths)
    return Batch(
        waveform=jnp.asarray(np.arange(rows * samples).reshape(rows, samples) % 3_000, jnp.int16),
        num_samples=jnp.asarray(lengths),
        tokens=jnp.arange(rows * 2).reshape(rows, 2),
        num_tokens=jnp.full(rows, 2),
        attributes=jnp.zeros((rows, 3)),
        emotion=jnp.zeros(rows, jnp.int32),
        emotion_votes=jnp.zeros((rows, 2)),
        weight=jnp.ones(rows),
        index=jnp.arange(rows),
        stored={},
    )


def test_windows_lie_side_by_side_and_short_remains_are_left_out():
    utterances = batch([250, 120, 40], 250)
    windows = windowed(utterances, 100)
    assert windows.waveform.shape == (9, 100)
    np.testing.assert_array_equal(windows.waveform[1], utterances.waveform[0, 100:200])
    np.testing.assert_array_equal(windows.num_samples.reshape(3, 3), [[100, 100, 50], [100, 0, 0], [40, 0, 0]])
    np.testing.assert_array_equal(windows.tokens[3:6], jnp.tile(utterances.tokens[1], (3, 1)))
    np.testing.assert_array_equal(window_lengths(jnp.array([0]), 100, 2), [[0, 0]])


def test_predictions_are_averaged_by_length_and_categories_as_probabilities():
    utterances = batch([250, 120, 40], 250)
    values = jnp.arange(9.0)
    logits = jnp.log(jnp.stack([0.1 * values, 1 - 0.1 * values], axis=1) + 1e-9)
    output = EmotionOutput(jnp.stack([values] * 3, axis=1), logits, values[:, None])
    found = averaged(output, utterances, 100)
    expected = np.array([(0 * 100 + 1 * 100 + 2 * 50) / 250, 3, 6])
    np.testing.assert_allclose(found.attributes[:, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(found.embedding[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(found.emotion_logits)[:, 0], 0.1 * expected, rtol=1e-5)


def test_a_split_of_msp_podcast_without_labels_gets_a_submission_file(tmp_path):
    info = CorpusInfo("msp_podcast/v1_11/1.0.0", (1.0, 7.0), (), "recorded", "rated", "", "")
    predictions = Predictions(
        corpus=info,
        split="test3",
        ids=["MSP-PODCAST_test3_0001", "MSP-PODCAST_test3_0002"],
        speakers=["", ""],
        attributes=np.array([[1.5, 2.25, 3.0], [4.0, 5.0, 6.0]]),
        attribute_labels=np.full((2, 3), np.nan),
        emotion_probabilities=np.zeros((2, 0)),
        emotion_labels=np.full(2, -1),
    )
    write_evaluation(tmp_path, predictions, None, 10)
    assert (tmp_path / "test3_submission.csv").read_text().splitlines() == [
        "FileName,EmoAct,EmoVal,EmoDom",
        "MSP-PODCAST_test3_0001.wav,1.500000,2.250000,3.000000",
        "MSP-PODCAST_test3_0002.wav,4.000000,5.000000,6.000000",
    ]
    labelled = dataclasses.replace(predictions, attribute_labels=np.ones((2, 3)))
    write_evaluation(tmp_path, labelled, None, 10)
    assert not (tmp_path / "test3_submission.csv").exists()
