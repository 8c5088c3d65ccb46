"""An imported speech encoder on recordings of any length: memory is bounded, and no sample is lost."""

import json

import numpy as np
import pytest

import emojax
from emojax.errors import AudioError
from emojax.evaluation import windows_of
from emojax.evaluation.windows import Windows
from emojax.importers import import_published
from tests import speech_checkpoints
from tests.test_importers import SETTINGS, MeanModel, experiment, perturbed, write

RATE = 16_000
SECOND = Windows(RATE, equal=True, at_once=RATE)
RECEPTIVE_FIELD = 650


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    encoder = speech_checkpoints.make_model("Wav2Vec2", **SETTINGS)
    labels = {"id2label": {"0": "arousal", "1": "dominance", "2": "valence"}}
    write(folder / "checkpoint", perturbed(MeanModel(encoder, 3)), encoder.config.to_dict() | labels)
    settings = {"feature_size": 1, "sampling_rate": RATE, "do_normalize": True}
    (folder / "checkpoint" / "preprocessor_config.json").write_text(json.dumps(settings))
    import_published(experiment(folder / "checkpoint"), folder / "run")
    return folder / "run"


def noise(samples):
    return np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)


@pytest.fixture
def model(workdir, monkeypatch):
    """The model with windows of at most a second in place of forty, and the shapes of what it has computed."""
    monkeypatch.setattr("emojax.evaluation.windows.ENCODER_SECONDS", 1)
    monkeypatch.setattr("emojax.inference.predictor.ENCODER_SECONDS", 1)
    loaded = emojax.load(workdir)
    forward, shapes = loaded._step.forward, []
    loaded._step.forward = lambda v, batch: shapes.append(batch.waveform.shape) or forward(v, batch)
    return loaded, shapes


def test_the_same_is_computed_at_once_whatever_the_length_of_a_recording(model):
    loaded, shapes = model
    assert windows_of(loaded.trained.config, loaded.trained.model, loaded.trained.online) == SECOND
    for seconds in (1.25, 7.1, 60):
        shapes.clear()
        loaded.predict(noise(round(seconds * RATE)), RATE)
        assert shapes == [(1, RATE)] * int(np.ceil(seconds))


def test_a_long_recording_is_the_mean_of_equal_parts_and_a_short_one_is_whole(model):
    loaded, shapes = model
    long, short = noise(40_001), noise(15_999)
    parts = [long[:13_334], long[13_334:26_668], long[26_668:]]
    expected = [loaded.predict(part, RATE).attributes for part in parts]
    found = loaded.predict(long, RATE).attributes
    weights = np.array([13_334, 13_334, 13_333]) / 40_001
    for name, value in found.items():
        assert value == pytest.approx(weights @ [part[name] for part in expected], abs=6e-6)
    shapes.clear()
    together = loaded.predict([(long, RATE), (short, RATE), (long, RATE)])
    for prediction, one in zip(together, (found, loaded.predict(short, RATE).attributes, found), strict=True):
        assert prediction.attributes == pytest.approx(one, abs=6e-6)
    assert max(rows * samples for rows, samples in shapes) <= RATE


def test_batches_of_windows_equal_the_step_of_evaluation_to_a_millionth(model):
    loaded, _ = model
    clips = [noise(samples) for samples in (15_000, 20_000, 40_001, 16_000, 113_600)]
    padded, lengths = np.zeros((len(clips), 120_000), np.float32), np.array([len(clip) for clip in clips], np.int32)
    for row, clip in enumerate(clips):
        padded[row, : len(clip)] = clip
    output = loaded.forward(padded, lengths, [""] * len(clips))
    for row, prediction in enumerate(loaded.predict([(clip, RATE) for clip in clips])):
        assert prediction.attributes == pytest.approx(loaded.named(output, row).attributes, abs=1e-6)
        np.testing.assert_allclose(prediction.embedding, output.embedding[row], atol=2e-6)


def test_a_clip_below_the_receptive_field_is_named_and_one_of_its_length_is_not(model):
    loaded, _ = model
    for samples in (1, 100, RECEPTIVE_FIELD - 1):
        message = (
            rf"^item 1: must have at least 650 samples at 16 kHz \(.* ms, one frame of this model\), got {samples}$"
        )
        with pytest.raises(AudioError, match=message):
            loaded.predict([(noise(RATE), RATE), (noise(samples), RATE)])
    assert np.isfinite(list(loaded.predict(noise(RECEPTIVE_FIELD), RATE).attributes.values())).all()


def test_a_number_in_the_config_keeps_its_meaning(workdir, model):
    loaded, _ = model
    assert loaded.trained.config.evaluation.window_seconds == 0
    kept = (workdir / "config.json").read_text()
    config = json.loads(kept)
    del config["sha256"]
    config["evaluation"]["window_seconds"] = 100.0
    try:
        (workdir / "config.json").write_text(json.dumps(config))
        whole = emojax.load(workdir)
    finally:
        (workdir / "config.json").write_text(kept)
    clip = noise(25_000)
    parts = [whole.predict(clip[:12_500], RATE).attributes, whole.predict(clip[12_500:], RATE).attributes]
    divided, constrain_replicated = loaded.predict(clip, RATE).attributes, whole.predict(clip, RATE).attributes
    assert divided == pytest.approx({name: (parts[0][name] + parts[1][name]) / 2 for name in divided}, abs=6e-6)
    assert constrain_replicated != pytest.approx(divided, abs=1e-4)
