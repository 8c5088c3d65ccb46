"""ONNX graphs return what the model does: of clips in any batch, of streams in any chunks, with 8-bit weights."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import emojax
from configs import default, student_conv, student_s
from emojax.errors import ConfigError
from emojax.export.check import check_clips, check_single_clips, check_stream, initial_state, padded, quantised_model
from emojax.export.description import Description, stream_obstacle
from emojax.export.onnx_model import clip_model, stream_model
from emojax.inference import Predictor
from tests.test_inference_stream import INFO, small, speech

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from emojax.export.onnx_files import onnx_run, onnx_session

TIGHT = {"attributes": 5e-6, "categories": 1e-6, "ratings": 2e-6, "embedding": 5e-6}
"""Largest differences that float32 explains, for models of unit scale."""


def described(predictor, categories=INFO.categories):
    """Description of a model without a workdir."""
    trained = predictor.trained
    bins = trained.config.model.rating_bins
    return Description(
        name="toy",
        attributes=("activation", "valence", "dominance"),
        scale=INFO.scale,
        categories=categories,
        rating_values=tuple(np.linspace(1, 7, bins).tolist()),
        corpus=INFO.name,
        licence=INFO.licence,
        citation=INFO.citation,
        speech=INFO.speech,
        step=1,
        min_samples=trained.model.min_samples,
        max_samples=None,
        window_seconds=0.0,
    )


def tight(parity, factor=1.0):
    for name, difference in parity.differences.items():
        assert difference <= factor * TIGHT[name], name


def offline():
    """A model that cannot run on a stream, with everything that only whole clips have."""
    tree = default.get_config()
    tree.model.log_mel.normalisation = "utterance"
    tree.model.log_mel.deltas.order = 2
    tree.model.rating_bins = 7
    return small(tree, causal=False, pooling="max", embedding_norm=True, embedding_activation="tanh")


KINDS = {
    "last": lambda: small(),
    "first": lambda: small(student_s.get_config(), pooling="first", gru_layers=1),
    "sum": lambda: small(student_s.get_config(), pooling="sum", gru_layers=1, embedding_activation="relu"),
    "max": lambda: small(student_s.get_config(), pooling="max", gru_layers=0),
    "mean": lambda: small(student_s.get_config(), pooling="mean", conv_channels=0, conv_kernel=4),
    "student": lambda: small(student_s.get_config()),
    "attentive": lambda: small(student_s.get_config(), pooling="attentive", gru_layers=1),
    "attentive_statistics": lambda: small(student_s.get_config(), pooling="attentive_statistics", gru_layers=1),
    "blocks": lambda: small(student_conv.get_config(), conv_channels=0),
    "blocks_and_gru": lambda: small(student_s.get_config(), block_dilations=(1, 3), conv_kernel=4),
}


@pytest.fixture(scope="module")
def student():
    return KINDS["student"]()


@pytest.mark.parametrize("kind", KINDS)
def test_clips_and_streams_get_the_outputs_of_the_model(kind):
    predictor = KINDS[kind]()
    description = described(predictor)
    clips = [speech(16_000), speech(7_001, 1), speech(predictor.min_samples, 2)]
    # Difference of squares, or a layer norm of frames whose variance is small: float32 itself is that uncertain.
    factor = {"attentive_statistics": 20, "blocks": 10, "sum": 10}.get(kind, 1)
    tight(check_clips(onnx_run(file_of(clip_model, predictor)), predictor, clips, description), factor)
    stream = onnx_session(file_of(stream_model, predictor))
    tight(check_stream(stream, predictor, clips[0], description), factor)


def file_of(build, predictor, **options):
    return build(predictor.trained, described(predictor), **options).SerializeToString()


def test_a_model_of_whole_clips_alone():
    predictor = offline()
    clips = [speech(12_000), speech(5_000, 1), speech(300, 2)]
    run = onnx_run(file_of(clip_model, predictor))
    tight(check_clips(run, predictor, clips, described(predictor)))
    assert run(*padded(clips))["ratings"].shape == (3, 3, 7)
    assert "utterance" in stream_obstacle(predictor.trained)
    single = onnx_run(file_of(clip_model, predictor, single=True))
    tight(check_single_clips(single, predictor, clips, described(predictor)))


@pytest.fixture(scope="module")
def student_run(student):
    return onnx_run(file_of(clip_model, student))


@hypothesis.settings(deadline=None, max_examples=15)
@hypothesis.given(lengths=st.lists(st.integers(1, 9_000), min_size=1, max_size=4), extra=st.integers(0, 900))
def test_a_clip_has_its_outputs_in_any_batch(student_run, lengths, extra):
    clips = [speech(length, length) for length in lengths]
    waveform, num_samples = padded(clips)
    waveform = np.pad(waveform, ((0, 0), (0, extra)), constant_values=1.0)
    together = student_run(waveform, num_samples)
    for row, clip in enumerate(clips):
        alone = student_run(clip[None], np.array([len(clip)]))
        for name, values in alone.items():
            np.testing.assert_allclose(together[name][row], values[0], atol=TIGHT[name])


def test_short_clips_are_extended_by_zeros(student, student_run):
    clip = speech(300)
    extended = np.pad(clip, (0, student.min_samples - 300))
    short, whole = (student_run(each[None], np.array([len(each)])) for each in (clip, extended))
    for name, values in whole.items():
        np.testing.assert_allclose(short[name], values, atol=TIGHT[name])
    assert np.isfinite(student_run(np.zeros((1, 0), np.float32), np.array([0]))["embedding"]).all()


@hypothesis.settings(deadline=None, max_examples=10)
@hypothesis.given(st.lists(st.integers(0, 3_000), min_size=1, max_size=6))
def test_streams_in_any_chunks_end_with_the_outputs_of_the_clip(student, student_stream, chunks):
    chunks = [*chunks, 1_000]
    clip = speech(sum(chunks))
    state = initial_state(student_stream)
    names = [output.name for output in student_stream.get_outputs()]
    for chunk in np.split(clip, np.cumsum(chunks)[:-1]):
        outputs = dict(zip(names, student_stream.run(names, {"waveform": chunk[None], **state}), strict=True))
        state = {name: outputs[name.replace("state_", "next_")] for name in state}
    expected = student.predict(clip, 16_000)
    np.testing.assert_allclose(outputs["embedding"][0], expected.embedding, atol=TIGHT["embedding"])


@pytest.fixture(scope="module")
def student_stream(student):
    return onnx_session(file_of(stream_model, student))


def test_streams_can_be_batched(student_stream):
    names = [output.name for output in student_stream.get_outputs()]
    chunks = np.stack([speech(4_000), speech(4_000, 1)])
    state = initial_state(student_stream)
    both = student_stream.run(names, {"waveform": chunks, **{n: np.repeat(v, 2, axis=0) for n, v in state.items()}})
    for row in range(2):
        alone = student_stream.run(names, {"waveform": chunks[row : row + 1], **state})
        for name, together, single in zip(names, both, alone, strict=True):
            np.testing.assert_allclose(together[row], single[0], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["student", "blocks", "attentive"])
def test_8_bit_files_have_the_weights_of_8_bit_workdirs(kind):
    predictor = KINDS[kind]()
    quantised = Predictor(quantised_model(predictor.trained))
    clips = [speech(9_000), speech(3_000, 1)]
    whole, small_file = (file_of(clip_model, predictor, quantised=flag) for flag in (False, True))
    parity = check_clips(onnx_run(small_file), quantised, clips, described(predictor))
    tight(parity, 10 if kind == "blocks" else 1)
    assert len(small_file) < len(whole)
    stream = onnx_session(file_of(stream_model, predictor, quantised=True))
    tight(check_stream(stream, quantised, clips[0], described(predictor)), 10 if kind == "blocks" else 1)
    rounded, exact = (model.predict(clips[0], 16_000).embedding for model in (quantised, predictor))
    assert np.abs(rounded - exact).max() > 1e-3


def test_the_file_describes_itself(student):
    metadata = onnx_session(file_of(stream_model, student)).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["attributes"]) == ["activation", "valence", "dominance"]
    assert json.loads(metadata["scale"]) == [1.0, 7.0]
    assert json.loads(metadata["categories"]) == ["anger", "neutral"]
    assert json.loads(metadata["sample_rate"]) == 16_000
    assert metadata["licence"] == "CC0-1.0"
    assert json.loads(metadata["stream_state"])["gru_0"] == [8]


def test_streams_of_the_model_and_the_file_start_alike(student, student_stream):
    assert emojax.Stream(student)(speech(879)) is None
    state = initial_state(student_stream)
    (frames,) = student_stream.run(["next_frames"], {"waveform": speech(879)[None], **state})
    assert frames == 0


def test_a_missing_package_is_named(monkeypatch):
    import sys

    from emojax.export.onnx_graph import Graph

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match="pip install onnx"):
        Graph()
