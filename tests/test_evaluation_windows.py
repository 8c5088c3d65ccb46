"""Window by window prediction, and what is written of splits without labels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import default
from emojax.config import parse_experiment
from emojax.encoders import load_encoder
from emojax.errors import ConfigError
from emojax.evaluation import PredictStep, softmax, windows_of
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.windows import WHOLE, Windows, predict_windows
from emojax.models import EmotionModel, EncoderPart
from emojax.parallel import MeshConfig, make_mesh, to_global_arrays
from emojax.reporting.evaluate import write_evaluation
from emojax.types import CorpusInfo, EmotionOutput
from tests.test_models_emotion_model import make_batch, small_config, small_model

LENGTHS = st.lists(st.integers(0, 2_000), min_size=1, max_size=6).map(lambda lengths: np.array(lengths, np.int32))


def one_device_mesh():
    return make_mesh(MeshConfig(data=1, fsdp=1), jax.devices()[:1])


@given(num_samples=LENGTHS, samples=st.integers(1, 900))
def test_windows_lie_side_by_side_and_a_short_last_one_is_left_out(num_samples, samples):
    starts, lengths = Windows(samples).bounds(num_samples)
    for row, total in enumerate(num_samples):
        expected = []
        for start in range(0, total, samples):
            length = min(samples, total - start)
            if start == 0 or length >= samples / 4:
                expected.append((start, length))
        present = lengths[row] > 0
        assert list(zip(starts[row][present], lengths[row][present], strict=True)) == expected


@given(num_samples=LENGTHS, samples=st.integers(1, 900))
def test_equal_windows_are_as_few_as_possible_and_hold_every_sample_once(num_samples, samples):
    starts, lengths = Windows(samples, equal=True).bounds(num_samples)
    for row, total in enumerate(num_samples):
        present = lengths[row] > 0
        assert present.sum() == -(-total // samples)
        assert lengths[row].sum() == total
        if total:
            assert starts[row][0] == 0
            np.testing.assert_array_equal(np.diff(starts[row][present]), lengths[row][present][:-1])
            assert np.ptp(lengths[row][present]) <= 1
            assert lengths[row].max() <= samples


@given(own=st.integers(1, 48), shards=st.sampled_from([1, 2, 8]), at_once=st.integers(0, 5_000))
def test_row_groups_are_alike_on_every_shard_and_bounded(own, shards, at_once):
    groups = list(Windows(100, at_once=at_once).row_groups(own * shards, shards))
    assert sorted(np.concatenate(groups)) == list(range(own * shards))
    assert len({len(group) for group in groups}) == 1
    for group in groups:
        np.testing.assert_array_equal(np.bincount(group // own, minlength=shards), len(group) // shards)
        assert not at_once or len(group) // shards <= max(at_once // 100, 1)


def batch(lengths, samples):
    """Utterances whose every sample is their row's number and one."""
    waveform = np.where(np.arange(samples) < np.array(lengths)[:, None], 1 + np.arange(len(lengths))[:, None], 0)
    return make_batch(lengths, samples).replace(
        waveform=waveform.astype(np.int16), tokens=np.arange(len(lengths) * 2, dtype=np.int32).reshape(-1, 2)
    )


def test_predictions_are_averaged_by_length_and_categories_as_probabilities():
    seen = []

    def forward(window):
        seen.append(window)
        share = window.num_samples[:, None] / 100  # a function of the window that differs from one to the next
        first = window.waveform[:, :1] + share
        logits = jnp.log(jnp.concatenate([share, 1.5 - share], axis=1) / 1.5)
        return EmotionOutput(jnp.repeat(first, 3, axis=1), logits, first * 2)

    utterances = batch([250, 120, 40, 0], 320)
    found = predict_windows(forward, utterances, Windows(100), one_device_mesh())
    first = np.array([(1 + 1) * 0.8 + (1 + 0.5) * 0.2, 2 + 1, 3 + 0.4, 0])
    np.testing.assert_allclose(found.attributes, np.stack([first] * 3, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.embedding[:, 0], 2 * first, rtol=1e-6)
    share = np.array([1 * 0.8 + 0.5 * 0.2, 1, 0.4])
    np.testing.assert_allclose(np.exp(found.emotion_logits)[:3, 0], share / 1.5, rtol=1e-5)
    assert [window.num_samples.tolist() for window in seen] == [[100, 100, 40, 0], [100, 0, 0, 0], [50, 0, 0, 0]]
    for window in seen:
        np.testing.assert_array_equal(window.tokens, utterances.tokens)
        valid = np.arange(100) < np.asarray(window.num_samples)[:, None]
        np.testing.assert_array_equal(np.asarray(window.waveform) != 0, valid)


def test_only_so_much_is_computed_at_once_and_rows_that_fill_a_batch_not_at_all():
    shapes = []

    def forward(window):
        shapes.append(window.waveform.shape)
        zeros = jnp.zeros((len(window.num_samples), 3))
        return EmotionOutput(zeros, zeros, zeros)

    windows = Windows(100, equal=True, at_once=250)
    predict_windows(forward, batch([250, 90, 0, 0, 0, 0, 110, 0], 4_000), windows, one_device_mesh())
    assert shapes == [(2, 100)] * 5


@pytest.mark.parametrize("equal", [False, True])
def test_an_utterance_gets_the_same_numbers_whatever_the_batch_and_the_mesh(equal):
    model, variables, _ = small_model(normalisation="utterance")
    windows = Windows(4_000, equal=equal, at_once=8_000)
    lengths = [3_999, 4_000, 4_001, 4_999, 5_000, 8_000, 9_001, 600]
    whole = make_batch(lengths, 12_000)
    alone = PredictStep(model, one_device_mesh(), windows)
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    replicated = jax.device_put(variables, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    together = PredictStep(model, mesh, windows)(replicated, to_global_arrays(jax.tree.map(np.asarray, whole), mesh))
    for row, length in enumerate(lengths):
        one = jax.tree.map(lambda values, row=row: np.asarray(values)[row : row + 1], whole)
        padded = -(-length // 3_000) * 3_000
        one = one.replace(waveform=one.waveform[:, :padded])
        found = alone(variables, one)
        np.testing.assert_allclose(found.attributes[0], together.attributes[row], atol=1e-6)
        np.testing.assert_allclose(found.embedding[0], together.embedding[row], atol=1e-6)
        probabilities = softmax(together.emotion_logits)[row]
        np.testing.assert_allclose(softmax(found.emotion_logits)[0], probabilities, atol=1e-6)
    assert alone.forward._cache_size() <= 2  # one window, and what is shorter than one


def test_a_window_of_the_length_of_the_batch_changes_nothing():
    model, variables, apply = small_model(normalisation="utterance")
    utterances = make_batch([16_000, 9_000])
    for windows in (WHOLE, Windows(16_000), Windows(16_000, equal=True)):
        found = PredictStep(model, one_device_mesh(), windows)(variables, utterances)
        jax.tree.map(np.testing.assert_array_equal, found, apply(variables, utterances))


def config_of(modalities, seconds):
    tree = default.get_config()
    tree.model.modalities = modalities
    tree.model.acoustic.checkpoint = tree.model.lexical.checkpoint = "somewhere"
    tree.evaluation.window_seconds = seconds
    return parse_experiment(tree.to_dict())


def test_windows_follow_the_memory_of_the_model_where_the_config_leaves_it_open(checkpoints):
    parts = {modality: EncoderPart.of(load_encoder(folder, params=False)) for modality, folder in checkpoints.items()}
    model = EmotionModel(small_config(), 0, parts)
    automatic = Windows(640_000, equal=True, at_once=640_000)
    ten_minutes = Windows(9_600_000, equal=True, at_once=9_600_000)
    for modalities, online, expected in (
        (("log_mel",), (), ten_minutes),
        (("log_mel", "lexical"), ("lexical",), ten_minutes),
        (("log_mel", "lexical"), (), WHOLE),
        (("lexical",), ("lexical",), WHOLE),
        (("acoustic",), (), WHOLE),
        (("acoustic",), ("acoustic",), automatic),
        (("log_mel", "acoustic", "lexical"), ("acoustic", "lexical"), automatic),
    ):
        assert windows_of(config_of(modalities, 0.0), model, online) == expected
    assert windows_of(config_of(("log_mel",), 2.5), model, ()) == Windows(40_000)
    assert windows_of(config_of(("lexical",), 2.5), model, ("lexical",)) == WHOLE
    with pytest.raises(
        ConfigError, match=r"window_seconds must be 0 if the acoustic modality reads a feature store, got 2.5"
    ):
        windows_of(config_of(("acoustic",), 2.5), model, ())
    # A last window of a quarter would have less than the 650 samples of a frame.
    with pytest.raises(ConfigError, match=r"window_seconds must be 0 or >= 0.1625, so .*, got 0.1"):
        windows_of(config_of(("acoustic",), 0.1), model, ("acoustic",))


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
