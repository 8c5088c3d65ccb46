"""One step is the same on one device and on eight, in every layout; schedule, averaging and selection behave."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import default
from emojax.config import OptimizerConfig, difference, parse_experiment
from emojax.data import AUDIO, open_corpus
from emojax.errors import CheckpointError
from emojax.parallel import MeshConfig, make_mesh
from emojax.schema import parse, to_tree
from emojax.training.data import open_data, training_stream
from emojax.training.experiment import build_experiment
from emojax.training.loop import SavedProgress
from emojax.training.optimizer import make_optimizer, make_schedule
from emojax.training.selection import SavedSelection, Selection
from emojax.training.statistics import fill_statistics


def small_experiment(data_dir, **optimizer):
    config = default.get_config()
    config.corpus.name = "mini_corpus"
    config.corpus.data_dir = str(data_dir)
    config.data.batch_size = 16
    config.data.bucket_seconds = (1.0, 2.5)
    config.data.workers = 0
    config.model.log_mel.network.update(
        {"gru_layers": 1, "gru_size": 16, "conv_channels": 8, "embedding_size": 8, "dropout": 0.2}
    )
    config.model.log_mel.vtlp.max_warp = 0.1
    config.objective.emotion_weight = 0.5
    config.optimizer.warmup_steps = 1
    config.optimizer.update(optimizer)
    return parse_experiment(config.to_dict())


def run(config, devices=1, fsdp=1, tensor=1, steps=6):
    """Metrics of the first steps, and the state after them."""
    data = open_data(config)
    mesh = make_mesh(MeshConfig(data=-1, fsdp=fsdp, tensor=tensor), jax.devices()[:devices])
    experiment = build_experiment(data.config, data.metadata, None, mesh)
    stream = training_stream(data, experiment, AUDIO)
    optimizer = make_optimizer(config.optimizer, stream.num_batches)
    state = experiment.init_state(optimizer)
    state = state.replace(statistics=fill_statistics(experiment.model, state.eval_variables, stream))
    step = experiment.train_step(optimizer, state)
    history = []
    for _, batch in zip(range(steps), stream, strict=False):
        state, metrics = step(state, batch)
        history.append(jax.device_get(metrics))
    return history, state


@pytest.fixture(scope="module")
def single(mini_data_dir):
    return run(small_experiment(mini_data_dir))


@pytest.mark.parametrize(("devices", "fsdp"), [(8, 1), (8, 8), (4, 2)])
def test_every_layout_gives_the_losses_of_one_device(mini_data_dir, single, devices, fsdp):
    history, state = run(small_experiment(mini_data_dir), devices, fsdp)
    for ours, expected in zip(history, single[0], strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    kernel = state.params["log_mel_network"]["gru_0"]["kernel_hh"]
    assert len(kernel.sharding.device_set) == devices
    assert kernel.addressable_shards[0].data.size == kernel.size // fsdp


def test_changes_of_the_waveform_are_part_of_the_step_in_every_layout(mini_data_dir, single):
    config = small_experiment(mini_data_dir)
    parts = ("speed", "reverberation", "noise", "gain")
    changed = {name: dataclasses.replace(getattr(config.augment, name), probability=0.7) for name in parts}
    config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, bank_clips=3, **changed))
    history, _ = run(config, steps=3)
    assert history[0]["loss"] != single[0][0]["loss"]
    for ours, expected in zip(run(config, devices=8, steps=3)[0], history, strict=True):
        np.testing.assert_allclose(ours["loss"], expected["loss"], rtol=1e-3)


def test_the_same_seed_repeats_bit_for_bit_and_another_does_not(mini_data_dir, single):
    again, _ = run(small_experiment(mini_data_dir))
    assert [metrics["loss"] for metrics in again] == [metrics["loss"] for metrics in single[0]]
    other, _ = run(dataclasses.replace(small_experiment(mini_data_dir), seed=1))
    assert other[0]["loss"] != single[0][0]["loss"]


def test_statistics_are_those_of_the_training_features(mini_data_dir, single):
    from emojax.audio import frame_mask, log_mel

    corpus = open_corpus("mini_corpus", mini_data_dir)
    config = small_experiment(mini_data_dir).model.log_mel.filterbank
    from emojax.data import open_split

    clips = [example["audio"].astype(np.float32) / 32768 for example in open_split(corpus, "train")]
    lengths = [len(clip) for clip in clips]
    padded = np.stack([np.pad(clip, (0, max(lengths) - len(clip))) for clip in clips])
    features = log_mel(jax.numpy.asarray(padded), config)
    mask = frame_mask(jax.numpy.asarray(lengths), features.shape[1], config)
    frames = np.asarray(features[mask], np.float64)
    found = single[1].statistics["log_mel"]
    np.testing.assert_allclose(found["mean"], frames.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(found["std"], frames.std(axis=0), rtol=1e-3)


def test_averaging_follows_the_parameters_and_predicts(mini_data_dir):
    _, state = run(small_experiment(mini_data_dir, ema_decay=0.9))
    kernel, ema = (tree["heads"]["attributes"]["kernel"] for tree in (state.params, state.ema_params))
    assert not np.array_equal(kernel, ema)
    np.testing.assert_allclose(kernel, ema, atol=0.05)
    np.testing.assert_array_equal(state.eval_variables["params"]["heads"]["attributes"]["kernel"], ema)


def make_optimizer_config(**changes):
    base = {
        "learning_rate": 1.0,
        "encoder_learning_rate": 0.1,
        "layer_decay": 1.0,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
    }
    return OptimizerConfig(**(base | {"ema_decay": 0.0} | changes))


def test_schedules_warm_up_and_fall():
    warm = make_schedule(make_optimizer_config(warmup_steps=4), 100)
    np.testing.assert_allclose([warm(step) for step in (0, 1, 2, 3, 4, 99)], [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6)
    cosine = make_schedule(make_optimizer_config(schedule="cosine"), 100)
    np.testing.assert_allclose([cosine(0), cosine(50), cosine(100)], [1, 0.5, 0], atol=1e-6)


def test_gradients_are_clipped_and_only_matrices_decay():
    optimizer = make_optimizer(make_optimizer_config(weight_decay=0.1), 10)
    params = {"kernel": jax.numpy.ones((2, 2)), "bias": jax.numpy.ones(2)}
    zero = jax.tree.map(jax.numpy.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0)


def test_selection_keeps_the_first_best_and_runs_out_of_patience():
    selection = Selection(patience=2)
    for step, score in ((1, 0.2), (2, 0.5), (3, 0.5), (4, 0.4)):
        assert not selection.exhausted
        selection.update(step, {"score": score, "ccc_valence": -score})
    assert (selection.best_step, selection.best_score, selection.exhausted) == (2, 0.5, True)
    assert selection.best_of_each["ccc_valence"] == {"value": -0.2, "step": 1}
    restored = Selection(patience=5)
    restored.set_state(parse(SavedSelection, selection.get_state()))
    assert (restored.patience, restored.best_step, restored.since_best) == (5, 2, 2)


def test_a_changed_config_is_an_error_that_names_its_first_field_and_harmless_fields_may_change(mini_data_dir):
    before = to_tree(small_experiment(mini_data_dir))
    after = to_tree(small_experiment(mini_data_dir, learning_rate=0.5))
    assert difference(before, after) == "optimizer.learning_rate was 0.001, now 0.5"
    harmless = to_tree(small_experiment(mini_data_dir))
    harmless["data"]["workers"], harmless["mesh"]["fsdp"] = 3, 4
    assert difference(before, harmless) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"position": "3", "num_batches": 9}}, r"data\.position must be an integer, got '3'"),
        ({"data": [3, 9]}, r"data must be a group of fields"),
        ({"seconds": float("nan")}, r"seconds must be a finite number"),
        ({"evaluated": -2}, r"evaluated must be >= -1"),
        ({"selection": {}}, r"selection\.patience is missing"),
    ],
)
def test_metadata_of_a_checkpoint_with_other_types_is_refused(change, message):
    good = {
        "data": {"position": 3, "num_batches": 9},
        "selection": Selection(patience=2).get_state(),
        "evaluated": -1,
        "seconds": 0.5,
    }
    assert parse(SavedProgress, good).data.position == 3
    with pytest.raises(CheckpointError, match=message):
        parse(SavedProgress, good | change, "run: checkpoint 3", error=CheckpointError)
