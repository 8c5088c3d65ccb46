"""Micro-batches give the loss and gradients of the whole batch, which a mean of micro-batch losses does not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.losses import ObjectiveConfig, multitask_loss
from emojax.training.step import loss_gradients
from emojax.types import Batch, EmotionOutput

CONFIG = ObjectiveConfig(
    attribute_weights=(0.5, 0.3, 0.2),
    emotion_weight=0.7,
    class_balance="none",
    label_smoothing=0.0,
    emotion_target="consensus",
    weighting="learned",
)
ROWS, FEATURES, CATEGORIES = 24, 5, 4
LOSS = functools.partial(multitask_loss, config=CONFIG, class_weights=jnp.ones(CATEGORIES))


def make_batch(seed=0, missing=0.2):
    rng = np.random.default_rng(seed)
    attributes = rng.uniform(size=(ROWS, 3)).astype(np.float32)
    attributes[rng.uniform(size=attributes.shape) < missing] = np.nan
    weight = np.ones(ROWS, np.float32)
    weight[-2:] = 0
    return Batch(
        waveform=jnp.asarray(rng.normal(size=(ROWS, FEATURES)).astype(np.float32)),
        num_samples=jnp.full(ROWS, FEATURES),
        tokens=jnp.zeros((ROWS, 0), jnp.int32),
        num_tokens=jnp.zeros(ROWS, jnp.int32),
        attributes=jnp.asarray(attributes),
        emotion=jnp.asarray(rng.integers(-1, CATEGORIES, ROWS)),
        emotion_votes=jnp.full((ROWS, CATEGORIES), jnp.nan),
        weight=jnp.asarray(weight),
        index=jnp.arange(ROWS),
    )


def forward(params, batch, key):
    hidden = jnp.tanh(batch.waveform @ params["hidden"])
    return EmotionOutput(hidden @ params["attributes"], hidden @ params["categories"], hidden)


@functools.partial(jax.jit, static_argnames="parts")
def gradients(params, objective, batch, parts):
    return loss_gradients(forward, LOSS, params, objective, batch, jax.random.key(0), parts)


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"hidden": (FEATURES, 6), "attributes": (6, 3), "categories": (6, CATEGORIES)}
    params = {name: jnp.asarray(rng.normal(size=size).astype(np.float32)) for name, size in sizes.items()}
    return params, {"log_variance": jnp.asarray(rng.normal(size=4).astype(np.float32))}


@given(seed=st.integers(0, 2**16), parts=st.sampled_from([2, 3, 8, 24]), missing=st.sampled_from([0.0, 0.3, 0.9]))
@settings(deadline=None, max_examples=20)
def test_any_number_of_parts_gives_the_gradients_of_the_whole_batch(seed, parts, missing):
    batch, (params, objective) = make_batch(seed, missing), parameters(seed)
    expected, expected_metrics = gradients(params, objective, batch, 1)
    found, metrics = gradients(params, objective, batch, parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), metrics, expected_metrics)


def test_a_mean_of_micro_batch_losses_is_another_loss():
    batch, (params, objective) = make_batch(), parameters()
    whole, _ = gradients(params, objective, batch, 1)
    parts = [jax.tree.map(lambda rows, k=k: rows[k::6], batch) for k in range(6)]
    means = jax.tree.map(
        lambda *each: sum(each) / 6, *[gradients(params, objective, part, 1)[0]["model"] for part in parts]
    )
    difference = np.abs(means["attributes"] - whole["model"]["attributes"]).max()
    assert difference > 0.05 * np.abs(whole["model"]["attributes"]).max()


def test_every_part_keeps_its_key_between_the_two_passes():
    batch, (params, objective) = make_batch(), parameters()
    seen = []

    def noisy(params, rows, key):
        noise = jax.random.normal(key, (rows.waveform.shape[0], 1))
        jax.debug.callback(lambda value: seen.append(float(value)), noise[0, 0])
        return forward(params, rows.replace(waveform=rows.waveform + noise), key)

    jax.block_until_ready(loss_gradients(noisy, LOSS, params, objective, batch, jax.random.key(0), 4))
    jax.effects_barrier()
    assert len(set(seen)) == 4
    assert all(seen.count(value) >= 2 for value in seen)


@pytest.mark.parametrize("weighting", ["fixed", "learned"])
def test_learned_weights_have_gradients_and_fixed_ones_do_not_exist(weighting):
    from emojax.losses import objective_parameters

    found = objective_parameters(ObjectiveConfig(**{**CONFIG.__dict__, "weighting": weighting}))
    assert set(found) == ({"log_variance"} if weighting == "learned" else set())
    if weighting == "learned":
        gradient, metrics = gradients(parameters()[0], found, make_batch(), 1)
        # d/ds (exp(-s) L + s) at s = 0 is 1 - L, times the task's weight.
        losses = [metrics[f"loss/ccc_{name}"] for name in ("activation", "valence", "dominance")]
        expected = [w * (1 - loss) for w, loss in zip((0.5, 0.3, 0.2), losses, strict=True)]
        expected.append(0.7 * (1 - metrics["loss/emotion"]))
        np.testing.assert_allclose(gradient["objective"]["log_variance"], expected, rtol=1e-5)
