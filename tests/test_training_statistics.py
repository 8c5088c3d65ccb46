"""Before the first step: statistics of the inputs, first predictions, and what a pooled network is trained to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from emojax.config import parse_experiment
from emojax.data import open_corpus, open_split
from emojax.encoders import load_encoder
from emojax.losses import ObjectiveConfig, multitask_loss
from emojax.metrics import regression_scores
from emojax.models import EmotionModel, EncoderPart
from emojax.models.emotion_model import EmotionModelConfig
from emojax.models.encoder_input import AcousticInputConfig
from emojax.models.tcgru import TCGRUConfig
from emojax.parallel import MeshConfig, make_mesh
from emojax.training import statistics
from emojax.training.data import open_data, student_inputs, training_stream
from emojax.training.experiment import build_experiment
from emojax.training.optimizer import make_optimizer
from emojax.types import Batch, StoredRows
from emojax.workdir import keep_encoders

POOLED = TCGRUConfig(gru_layers=0, conv_channels=0, pooling="statistics", embedding_size=0)


def experiment_config(data_dir, checkpoints, **acoustic):
    tree = default.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir)})
    tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0})
    tree.model.modalities = ("acoustic",)
    tree.model.acoustic.checkpoint = str(checkpoints["acoustic"])
    tree.model.acoustic.layers = (1, -1)
    tree.model.acoustic.update(acoustic)
    tree.model.acoustic.network.update({"gru_layers": 0, "conv_channels": 0, "embedding_size": 5})
    tree.objective.emotion_weight = 0.5
    return parse_experiment(tree.to_dict())


def start(config, workdir, devices=1):
    """Experiment, batches and variables of a run before its first step."""
    data = open_data(config)
    keep_encoders(workdir, data.config.model)
    mesh = make_mesh(MeshConfig(fsdp=devices, data=1), jax.devices()[:devices])
    experiment = build_experiment(data.config, data.metadata, workdir, mesh)
    stream = training_stream(data, experiment, student_inputs(data, workdir)[data.config.corpus.train_split])
    state = experiment.init_state(make_optimizer(config.optimizer, stream.num_batches, ("acoustic",)))
    filled = statistics.fill_statistics(experiment.model, state.eval_variables, stream, experiment.online)
    return experiment, stream, {**state.eval_variables, "statistics": filled}


@pytest.fixture(scope="module")
def started(mini_data_dir, checkpoints, tmp_path_factory):
    return start(experiment_config(mini_data_dir, checkpoints), tmp_path_factory.mktemp("run"))


def layer_frames(mini_data_dir, checkpoints):
    """Frames (N, 2, D) of layers 1 and 2 of all training utterances."""
    examples = open_split(open_corpus("mini_corpus", mini_data_dir), "train")
    encoder = load_encoder(checkpoints["acoustic"])
    clips = [example["audio"].astype(np.float32) / 2**15 for example in examples]
    clips = [clip for clip in clips if len(clip) >= encoder.min_samples]
    first, last = [rows[1] for rows in encoder.encode(clips, hidden_states=True)], encoder.encode(clips)
    return np.stack([np.concatenate(first), np.concatenate(last)], axis=1).astype(np.float64)


def test_statistics_of_hidden_states_are_those_of_the_training_corpus(mini_data_dir, checkpoints, started, tmp_path):
    frames = layer_frames(mini_data_dir, checkpoints)
    found = started[2]["statistics"]["acoustic"]
    np.testing.assert_allclose(found["mean"], frames.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found["std"], frames.std(axis=0), rtol=1e-3, atol=2e-4)
    mean_of_layers = start(experiment_config(mini_data_dir, checkpoints, combine="mean"), tmp_path)[2]["statistics"]
    np.testing.assert_allclose(mean_of_layers["acoustic"]["mean"], frames.mean(axis=(0, 1))[None], atol=1e-4)


def test_statistics_are_equal_on_eight_devices(mini_data_dir, checkpoints, started, tmp_path):
    sharded = start(experiment_config(mini_data_dir, checkpoints), tmp_path, devices=8)[2]["statistics"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), sharded, started[2]["statistics"])


def test_a_computed_encoder_is_applied_to_a_bounded_number_of_utterances(started, monkeypatch):
    experiment, stream, variables = started
    loaded, load = [], stream.load
    monkeypatch.setattr(stream, "load", lambda number: loaded.append(number) or load(number))
    monkeypatch.setattr(statistics, "ENCODER_UTTERANCES", 9)
    statistics.fill_statistics(experiment.model, variables, stream, experiment.online)
    assert loaded == [0, 1]


def test_without_normalisation_there_are_no_statistics(mini_data_dir, checkpoints, tmp_path):
    config = experiment_config(mini_data_dir, checkpoints, normalisation="none")
    assert start(config, tmp_path)[2]["statistics"] == {}


def test_first_predictions_are_the_means_of_the_training_labels(started):
    experiment, stream, variables = started
    batch = stream.load(0)
    output = jax.jit(lambda: experiment.model.apply(variables, batch))()
    data = open_data(experiment.config)
    low, high = data.corpus.info.scale
    means = (np.nanmean(data.training.attributes, axis=0) - low) / (high - low)
    np.testing.assert_allclose(output.attributes, np.tile(means, (8, 1)), atol=0.03)
    emotion = data.training.emotion[data.training.emotion >= 0]
    shares = np.bincount(emotion, minlength=3) / len(emotion)
    np.testing.assert_allclose(jax.nn.softmax(output.emotion_logits), np.tile(shares, (8, 1)), atol=0.03)


def pooled_model(checkpoints):
    encoder = load_encoder(checkpoints["acoustic"], params=False)
    acoustic = AcousticInputConfig(checkpoint="any", network=POOLED)
    return EmotionModel(
        EmotionModelConfig(modalities=("acoustic",), acoustic=acoustic), 0, {"acoustic": EncoderPart.of(encoder)}
    )


def stored_batch(frames, labels):
    rows, length = frames.shape[:2]
    batch = Batch(
        waveform=np.zeros((rows, 0), np.int16),
        num_samples=np.full(rows, 320 * length, np.int32),
        tokens=np.zeros((rows, 0), np.int32),
        num_tokens=np.zeros(rows, np.int32),
        attributes=labels,
        emotion=np.full(rows, -1, np.int32),
        emotion_votes=np.zeros((rows, 0), np.float32),
        weight=np.ones(rows, np.float32),
        index=np.arange(rows, dtype=np.int32),
        stored={"acoustic": StoredRows(frames, np.full(rows, length, np.int32))},
    )
    return jax.tree.map(jnp.asarray, batch)


def test_a_pooled_network_reaches_ridge_regression_on_the_same_statistics(checkpoints):
    """Features of very different offsets and scales, as those of Whisper: labels depend on small ones."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    scale, offset = 10.0 ** random.uniform(-2, 1.5, 32), random.normal(0, 20, 32)
    hidden = random.normal(size=(400, 32))
    labels = 0.5 + 0.05 * (hidden[:, np.argsort(scale)[:8]] @ random.normal(size=(8, 3)))
    labels = (labels + random.normal(0, 0.05, labels.shape)).astype(np.float32)
    frames = (hidden[:, None] + 0.5 * random.normal(size=(400, 12, 32))) * scale + offset
    frames = frames[:, :, None].astype(np.float32)
    train, test = (stored_batch(frames[part], labels[part]) for part in (slice(200), slice(200, None)))
    pooled = np.concatenate([frames.mean(axis=(1, 2)), frames.std(axis=(1, 2))], axis=-1)
    ridge = make_pipeline(StandardScaler(), RidgeCV(10.0 ** np.arange(-1, 4))).fit(pooled[:200], labels[:200])
    reference = regression_scores(ridge.predict(pooled[200:]).astype(float), labels[200:].astype(float))["ccc"]

    model = pooled_model(checkpoints)
    variables = jax.jit(model.init)(jax.random.key(0), train)
    kept = frames[:200].reshape(-1, 1, 32)
    variables["statistics"] = {
        "acoustic": {"mean": jnp.asarray(kept.mean(axis=0)), "std": jnp.asarray(kept.std(axis=0))}
    }
    optimizer = optax.adam(0.01)

    def loss(params):
        output = model.apply({**variables, "params": params}, train, train=True)
        return multitask_loss(output, train, {}, ObjectiveConfig(), jnp.ones(0))[0]

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = variables["params"]
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, length=150))((params, optimizer.init(params)))
    predicted = np.asarray(model.apply({**variables, "params": params}, test).attributes, float)
    found = regression_scores(predicted, labels[200:].astype(float))["ccc"]
    assert np.mean(list(reference.values())) > 0.7
    for name, value in reference.items():
        assert found[name] > value - 0.02


def test_attributes_are_clipped_in_evaluation_and_have_gradients_in_training(checkpoints):
    model = pooled_model(checkpoints)
    batch = stored_batch(
        np.random.default_rng(0).normal(size=(6, 4, 1, 32)).astype(np.float32), np.full((6, 3), 0.5, np.float32)
    )
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    head = variables["params"]["heads"]["attributes"]
    head["kernel"], head["bias"] = 0.1 * head["kernel"], jnp.array([3.0, 0.5, -3.0])
    clipped = jax.jit(model.apply)(variables, batch).attributes
    np.testing.assert_array_equal(clipped[:, [0, 2]], np.tile([1.0, 0.0], (6, 1)))
    assert ((clipped[:, 1] > 0) & (clipped[:, 1] < 1)).all()
    sums = jax.jit(jax.grad(lambda variables: model.apply(variables, batch, train=True).attributes.sum()))
    np.testing.assert_allclose(sums(variables)["params"]["heads"]["attributes"]["bias"], 6)
    unlimited = model.clone(config=dataclasses.replace(model.config, clip_attributes=False))
    assert (np.asarray(jax.jit(unlimited.apply)(variables, batch).attributes[:, 0]) > 1).all()
