"""Sharded over eight devices, the objective is that of the global batch, not a mean over parts of it."""

import dataclasses

import audmetric
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from emojax.losses import ObjectiveConfig, ccc_loss, multitask_loss
from emojax.metrics import ccc
from emojax.parallel import MeshConfig, batch_sharding, make_mesh, num_batch_shards
from emojax.types import Batch, EmotionOutput

CONFIG = ObjectiveConfig(
    attribute_weights=(1 / 3, 1 / 3, 1 / 3),
    emotion_weight=0.5,
    class_balance="none",
    label_smoothing=0.0,
    emotion_target="consensus",
    weighting="fixed",
)


def draw(num_items: int = 32) -> tuple[EmotionOutput, Batch]:
    """A batch with missing ratings and categories, of which the last device has nothing but filler rows."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 1, (num_items, 3)).astype(np.float32)
    predictions = (0.6 * labels + 0.3 * rng.random((num_items, 3))).astype(np.float32)
    labels[rng.random((num_items, 3)) < 0.2] = np.nan
    weight = np.ones(num_items, np.float32)
    weight[-4:], predictions[-4:], labels[-4:] = 0, np.nan, np.nan
    batch = Batch(
        waveform=jnp.zeros((num_items, 8), jnp.int16),
        num_samples=jnp.full(num_items, 8),
        tokens=jnp.zeros((num_items, 0), jnp.int32),
        num_tokens=jnp.zeros(num_items, jnp.int32),
        attributes=jnp.asarray(labels),
        emotion=jnp.asarray(rng.integers(-1, 4, num_items), jnp.int32),
        emotion_votes=jnp.full((num_items, 4), jnp.nan),
        weight=jnp.asarray(weight),
        index=jnp.arange(num_items),
    )
    logits = jnp.asarray(rng.normal(size=(num_items, 4)), jnp.float32)
    return EmotionOutput(
        attributes=jnp.asarray(predictions), emotion_logits=logits, embedding=jnp.zeros((32, 2))
    ), batch


def over_eight_devices() -> NamedSharding:
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data"))


def value_and_gradients(output: EmotionOutput, batch: Batch, config: ObjectiveConfig = CONFIG):
    def of_predictions(attributes, logits):
        predicted = dataclasses.replace(output, attributes=attributes, emotion_logits=logits)
        return multitask_loss(predicted, batch, {}, config, jnp.ones(4))

    return jax.value_and_grad(of_predictions, argnums=(0, 1), has_aux=True)(output.attributes, output.emotion_logits)


@pytest.mark.parametrize("attribute_loss", ["ccc", "mse", "mix"])
def test_sharded_loss_metrics_and_gradients_equal_unsharded(attribute_loss):
    (output, batch), config = draw(), dataclasses.replace(CONFIG, attribute_loss=attribute_loss)
    (loss, metrics), gradients = value_and_gradients(output, batch, config)
    sharded = jax.device_put((output, batch), over_eight_devices())
    compute = jax.jit(value_and_gradients, static_argnames="config")
    (sharded_loss, sharded_metrics), sharded_gradients = compute(*sharded, config=config)
    assert np.isfinite(loss)
    assert float(sharded_loss) == pytest.approx(float(loss), abs=1e-6)
    for name, value in metrics.items():
        assert float(sharded_metrics[name]) == pytest.approx(float(value), abs=1e-6), name
    for gradient, sharded_gradient in zip(gradients, sharded_gradients, strict=True):
        assert len(sharded_gradient.sharding.device_set) == 8
        np.testing.assert_allclose(sharded_gradient, gradient, atol=1e-6)


def test_the_sharded_program_reduces_sums_and_gathers_no_batch():
    output, batch = draw()
    sharded = jax.device_put((output, batch), over_eight_devices())
    program = jax.jit(value_and_gradients).lower(*sharded).compile().as_text()
    assert "all-reduce" in program
    assert "all-gather" not in program


def test_micro_batches_ccc_is_of_the_global_batch_not_a_mean_over_micro_batches_of_eight():
    """The mean of the CCC losses of four micro-batches of 8 has another value and another gradient."""
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.uniform(0, 1, (32, 3)), jnp.float32)
    predictions = jnp.asarray(0.4 * labels + 0.4 * rng.random((32, 3)), jnp.float32)

    def of_micro_batches(predictions):
        parts = zip(predictions.reshape(4, 8, 3), labels.reshape(4, 8, 3), strict=True)
        return jnp.stack([ccc_loss(part, part_labels, jnp.ones(8)) for part, part_labels in parts]).mean()

    def of_global_batch(predictions):
        return ccc_loss(predictions, labels, jnp.ones(32)).mean()

    sharding = over_eight_devices()
    global_loss, global_gradient = jax.jit(jax.value_and_grad(of_global_batch))(jax.device_put(predictions, sharding))
    micro_loss, micro_gradient = jax.value_and_grad(of_micro_batches)(predictions)
    expected = [audmetric.concordance_cc(np.asarray(labels[:, d]), np.asarray(predictions[:, d])) for d in range(3)]
    assert float(global_loss) == pytest.approx(1 - np.mean(expected), abs=1e-6)
    assert abs(micro_loss - global_loss) > 0.01
    assert np.abs(micro_gradient - global_gradient).max() > 0.1 * np.abs(global_gradient).max()


def test_the_loss_is_one_minus_the_metric_of_evaluation():
    output, batch = draw()
    scores = ccc(*map(np.asarray, (output.attributes, batch.attributes, batch.weight)))
    np.testing.assert_allclose(1 - ccc_loss(output.attributes, batch.attributes, batch.weight), scores, atol=1e-6)


LAYOUTS = [(2, 2, 1, 2), (8, 1, 1), (1, 8, 1), (2, 4, 1), (2, 2, 2), (1, 1, 8), (4, 1, 2)]


@settings(max_examples=25, deadline=None)
@given(
    layout=st.sampled_from(LAYOUTS), multiple=st.integers(1, 5), missing=st.floats(0, 0.9), seed=st.integers(0, 2**16)
)
def test_every_layout_batch_size_and_share_of_missing_labels_gives_the_loss_of_the_whole_batch(
    layout, multiple, missing, seed
):
    mesh = make_mesh(MeshConfig(*layout))
    rng, rows = np.random.default_rng(seed), multiple * num_batch_shards(mesh)
    labels = rng.uniform(0, 1, (rows, 3)).astype(np.float32)
    predictions = (0.5 * labels + 0.4 * rng.random((rows, 3))).astype(np.float32)
    labels[rng.random((rows, 3)) < missing] = np.nan
    weight = (rng.random(rows) > 0.2).astype(np.float32)
    expected = ccc_loss(jnp.asarray(predictions), jnp.asarray(labels), jnp.asarray(weight))
    divided = jax.device_put((predictions, labels, weight), batch_sharding(mesh))
    np.testing.assert_allclose(jax.jit(ccc_loss)(*divided), expected, atol=2e-6)
