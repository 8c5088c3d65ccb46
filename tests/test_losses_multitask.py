"""The multi-task loss: its parts by name, missing labels of every kind, class weights, votes and filler rows."""

import dataclasses
import functools

import audmetric
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
import sklearn.utils.class_weight
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.errors import ConfigError
from emojax.losses import LABEL_TERMS, ObjectiveConfig, WeightedTerm, ccc_loss, class_weights, multitask_loss
from emojax.types import Batch, EmotionOutput

CONFIG = ObjectiveConfig(
    attribute_weights=(1 / 3, 1 / 3, 1 / 3),
    emotion_weight=0.2,
    class_balance="none",
    label_smoothing=0.0,
    emotion_target="consensus",
    weighting="fixed",
)
C = 4


def make_batch(attributes: np.ndarray, emotion: np.ndarray, votes: np.ndarray, weight: np.ndarray) -> Batch:
    num_items = len(attributes)
    return Batch(
        waveform=jnp.zeros((num_items, 8), jnp.int16),
        num_samples=jnp.full(num_items, 8),
        tokens=jnp.zeros((num_items, 0), jnp.int32),
        num_tokens=jnp.zeros(num_items, jnp.int32),
        attributes=jnp.asarray(attributes, jnp.float32),
        emotion=jnp.asarray(emotion, jnp.int32),
        emotion_votes=jnp.asarray(votes, jnp.float32),
        weight=jnp.asarray(weight, jnp.float32),
        index=jnp.arange(num_items),
    )


def draw(num_items: int = 16, num_categories: int = C, seed: int = 0) -> tuple[EmotionOutput, Batch]:
    rng = np.random.default_rng(seed)
    attributes = rng.uniform(0, 1, (num_items, 3))
    votes = rng.dirichlet(np.ones(num_categories), num_items) if num_categories else np.zeros((num_items, 0))
    emotion = rng.integers(0, num_categories, num_items) if num_categories else np.full(num_items, -1)
    output = EmotionOutput(
        attributes=jnp.asarray(0.5 * attributes + 0.3 * rng.random((num_items, 3)), jnp.float32),
        emotion_logits=jnp.asarray(rng.normal(size=(num_items, num_categories)), jnp.float32),
        embedding=jnp.zeros((num_items, 2)),
    )
    return output, make_batch(attributes, emotion, votes, np.ones(num_items))


@functools.partial(jax.jit, static_argnames="config")
def differentiate(output, batch, config, weights):
    def of_predictions(attributes, logits):
        return multitask_loss(output.replace(attributes=attributes, emotion_logits=logits), batch, {}, config, weights)

    return jax.value_and_grad(of_predictions, argnums=(0, 1), has_aux=True)(output.attributes, output.emotion_logits)


def loss_and_gradient(output, batch, config=CONFIG, weights=None):
    """Loss, metrics, and the gradient with respect to attributes and logits."""
    if weights is None:
        weights = jnp.ones(output.emotion_logits.shape[1])
    (loss, metrics), gradient = differentiate(output, batch, config, weights)
    return float(loss), {name: float(value) for name, value in metrics.items()}, gradient


def test_loss_is_the_weighted_sum_of_its_named_parts():
    output, batch = draw()
    config = dataclasses.replace(CONFIG, attribute_weights=(0.5, 0.3, 0.2), emotion_weight=0.7)
    loss, metrics, _ = loss_and_gradient(output, batch, config)
    parts = [
        1 - audmetric.concordance_cc(*map(np.asarray, (batch.attributes[:, d], output.attributes[:, d])))
        for d in range(3)
    ]
    entropy = sklearn.metrics.log_loss(batch.emotion, jax.nn.softmax(output.emotion_logits), labels=range(C))
    assert loss == pytest.approx(np.dot([0.5, 0.3, 0.2], parts) + 0.7 * entropy, abs=1e-5)
    assert metrics == pytest.approx(
        {
            "loss": float(loss),
            "loss/ccc_activation": parts[0],
            "loss/ccc_valence": parts[1],
            "loss/ccc_dominance": parts[2],
            "loss/emotion": entropy,
            "labels/activation": 16,
            "labels/valence": 16,
            "labels/dominance": 16,
            "labels/emotion": 16,
        },
        abs=1e-5,
    )


def test_attribute_order_swapping_columns_swaps_named_losses():
    output, batch = draw()
    _, metrics, _ = loss_and_gradient(output, batch)
    order = jnp.array([1, 0, 2])
    _, swapped, _ = loss_and_gradient(
        output.replace(attributes=output.attributes[:, order]), batch.replace(attributes=batch.attributes[:, order])
    )
    assert swapped["loss/ccc_valence"] == pytest.approx(metrics["loss/ccc_activation"])
    assert swapped["loss/ccc_valence"] != pytest.approx(metrics["loss/ccc_valence"], abs=1e-3)
    _, mixed, _ = loss_and_gradient(output.replace(attributes=output.attributes[:, order]), batch)
    assert mixed["loss/ccc_dominance"] == metrics["loss/ccc_dominance"]
    assert min(mixed["loss/ccc_activation"], mixed["loss/ccc_valence"]) > 0.6


def test_attribute_weights_are_in_the_order_activation_valence_dominance():
    output, batch = draw()
    for column, name in enumerate(("activation", "valence", "dominance")):
        weights = tuple(float(column == other) for other in range(3))
        config = dataclasses.replace(CONFIG, attribute_weights=weights, emotion_weight=0.0)
        loss, metrics, (gradient, _) = loss_and_gradient(output, batch, config)
        assert loss == metrics[f"loss/ccc_{name}"]
        assert (np.abs(gradient).max(axis=0) > 0).tolist() == [bool(weight) for weight in weights]


def test_a_corpus_without_ratings_trains_on_its_categories_alone():
    output, batch = draw()
    batch = batch.replace(attributes=jnp.full((16, 3), jnp.nan))
    loss, metrics, (to_attributes, to_logits) = loss_and_gradient(output, batch)
    assert loss == pytest.approx(0.2 * metrics["loss/emotion"])
    assert metrics["loss/emotion"] > 0
    assert metrics["labels/valence"] == 0
    np.testing.assert_array_equal(to_attributes, 0.0)
    assert (np.abs(to_logits).max(axis=1) > 0).all()


def test_a_corpus_without_categories_trains_on_its_attributes_alone():
    output, batch = draw(num_categories=0)
    loss, metrics, (to_attributes, _) = loss_and_gradient(output, batch)
    assert loss == pytest.approx(float(ccc_loss(output.attributes, batch.attributes, batch.weight).mean()))
    assert metrics["loss/emotion"] == 0
    assert (np.abs(to_attributes).max(axis=0) > 0).all()


def test_weights_of_attributes_without_labels_go_to_the_others():
    output, batch = draw()
    only_valence = batch.replace(attributes=batch.attributes.at[:, 0].set(jnp.nan).at[1:, 2].set(jnp.nan))
    config = dataclasses.replace(CONFIG, emotion_weight=0.0, attribute_weights=(0.6, 0.3, 0.1))
    loss, metrics, _ = loss_and_gradient(output, only_valence, config)
    assert loss == pytest.approx(metrics["loss/ccc_valence"])
    assert metrics["loss/ccc_activation"] == metrics["loss/ccc_dominance"] == 0
    assert [int(metrics[f"labels/{name}"]) for name in ("activation", "valence", "dominance")] == [0, 16, 1]
    unweighted = dataclasses.replace(config, attribute_weights=(1.0, 0.0, 0.0))
    assert loss_and_gradient(output, only_valence, unweighted)[0] == 0


def test_a_batch_without_any_label_has_loss_zero_and_gradient_zero():
    output, batch = draw()
    empty = batch.replace(attributes=jnp.full((16, 3), jnp.nan), emotion=jnp.full(16, -1))
    for candidate in (empty, batch.replace(weight=jnp.zeros(16))):
        loss, _, gradients = loss_and_gradient(output, candidate)
        assert loss == 0
        for gradient in gradients:
            np.testing.assert_array_equal(gradient, 0.0)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    garbage=st.sampled_from([np.nan, np.inf, -1e38]),
    emotion=st.sampled_from([-1, 0, 1000, -7]),
    target=st.sampled_from(["consensus", "votes"]),
)
def test_filler_rows_never_change_loss_or_gradient(seed, garbage, emotion, target):
    config = dataclasses.replace(CONFIG, emotion_target=target, label_smoothing=0.1)
    output, batch = draw(13, seed=seed)

    def pad(values, value):
        return jnp.concatenate([values, jnp.full((3, *values.shape[1:]), value, values.dtype)])

    padded = make_batch(
        pad(batch.attributes, garbage),
        pad(batch.emotion, emotion),
        pad(batch.emotion_votes, garbage),
        pad(batch.weight, 0),
    )
    padded_output = EmotionOutput(
        attributes=pad(output.attributes, garbage),
        emotion_logits=pad(output.emotion_logits, garbage),
        embedding=pad(output.embedding, garbage),
    )
    loss, metrics, gradients = loss_and_gradient(output, batch, config)
    padded_loss, padded_metrics, padded_gradients = loss_and_gradient(padded_output, padded, config)
    assert padded_loss == pytest.approx(loss, abs=1e-6)
    for name, value in metrics.items():
        assert padded_metrics[name] == pytest.approx(value, abs=1e-6), name
    for gradient, padded_gradient in zip(gradients, padded_gradients, strict=True):
        np.testing.assert_allclose(padded_gradient[:13], gradient, atol=1e-6)
        np.testing.assert_array_equal(padded_gradient[13:], 0.0)


def test_items_without_consensus_train_attributes_but_not_categories():
    output, batch = draw()
    masked = batch.replace(emotion=batch.emotion.at[:6].set(-1))
    _, metrics, (to_attributes, to_logits) = loss_and_gradient(output, masked)
    expected = float(
        optax.softmax_cross_entropy_with_integer_labels(output.emotion_logits[6:], batch.emotion[6:]).mean()
    )
    assert metrics["loss/emotion"] == pytest.approx(expected, abs=1e-6)
    assert metrics["labels/emotion"] == 10
    np.testing.assert_array_equal(to_logits[:6], 0.0)
    assert (to_attributes[:6] != 0).all()


def test_class_weights_weight_items_as_scikit_learn_does():
    output, batch = draw(60)
    counts = np.bincount(batch.emotion, minlength=C)
    weights = class_weights(counts, "inverse_frequency")
    reference = sklearn.utils.class_weight.compute_class_weight("balanced", classes=np.arange(C), y=batch.emotion)
    np.testing.assert_allclose(weights, reference, rtol=1e-6)
    _, metrics, _ = loss_and_gradient(output, batch, weights=weights)
    expected = sklearn.metrics.log_loss(
        batch.emotion, jax.nn.softmax(output.emotion_logits), labels=range(C), sample_weight=reference[batch.emotion]
    )
    assert metrics["loss/emotion"] == pytest.approx(expected, abs=1e-5)


def test_class_weights_of_absent_categories_and_of_no_balance():
    np.testing.assert_allclose(class_weights(np.array([30, 0, 10]), "inverse_frequency"), [2 / 3, 0, 2])
    np.testing.assert_array_equal(class_weights(np.array([30, 0, 10]), "none"), np.ones(3))
    assert class_weights(np.zeros(0, int), "inverse_frequency").shape == (0,)
    np.testing.assert_array_equal(class_weights(np.zeros(2, int), "inverse_frequency"), 0.0)


def test_votes_are_targets_and_rows_without_votes_are_masked():
    output, batch = draw()
    votes = batch.emotion_votes.at[:3].set(jnp.nan).at[3].set(0.0)
    config = dataclasses.replace(CONFIG, emotion_target="votes")
    _, metrics, (_, to_logits) = loss_and_gradient(output, batch.replace(emotion_votes=votes), config)
    expected = float(optax.softmax_cross_entropy(output.emotion_logits[4:], batch.emotion_votes[4:]).mean())
    assert metrics["loss/emotion"] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(to_logits[:4], 0.0)
    # Half of the votes went to categories that the corpus does not train.
    _, halved, _ = loss_and_gradient(output, batch.replace(emotion_votes=votes / 2), config)
    assert halved["loss/emotion"] == pytest.approx(expected, abs=1e-6)


def test_unanimous_votes_equal_consensus_with_class_weights_and_smoothing():
    output, batch = draw()
    unanimous = batch.replace(emotion_votes=jax.nn.one_hot(batch.emotion, C))
    weights = class_weights(np.array([5, 1, 20, 3]), "inverse_frequency")
    losses = [
        loss_and_gradient(
            output, unanimous, dataclasses.replace(CONFIG, emotion_target=target, label_smoothing=0.1), weights
        )[1]["loss/emotion"]
        for target in ("consensus", "votes")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_label_smoothing_equals_optax():
    output, batch = draw()
    _, metrics, _ = loss_and_gradient(output, batch, dataclasses.replace(CONFIG, label_smoothing=0.1))
    smooth = optax.smooth_labels(jax.nn.one_hot(batch.emotion, C), 0.1)
    expected = float(optax.softmax_cross_entropy(output.emotion_logits, smooth).mean())
    assert metrics["loss/emotion"] == pytest.approx(expected, abs=1e-6)


def test_a_category_the_model_does_not_have_makes_the_loss_nan_rather_than_training_another():
    output, batch = draw()
    loss, _, _ = loss_and_gradient(output, batch.replace(emotion=batch.emotion.at[2].set(C)))
    assert np.isnan(loss)


def test_bfloat16_outputs_are_reduced_in_float32():
    output, batch = draw(500)
    narrow = jax.tree.map(lambda values: values.astype(jnp.bfloat16), output)
    wide = jax.tree.map(lambda values: values.astype(jnp.float32), narrow)
    loss, metrics = jax.jit(multitask_loss, static_argnames="config")(narrow, batch, {}, CONFIG, jnp.ones(C))
    assert {value.dtype for value in (loss, *metrics.values())} == {jnp.dtype(jnp.float32)}
    assert float(loss) == pytest.approx(loss_and_gradient(wide, batch)[0], abs=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attribute_weights", (0.5, 0.5, 0.5)),
        ("attribute_weights", (1.5, -0.5, 0.0)),
        ("attribute_weights", (float("nan"), 0.5, 0.5)),
        ("emotion_weight", -0.1),
        ("emotion_weight", float("inf")),
        ("label_smoothing", 1.0),
        ("label_smoothing", float("nan")),
        ("mse_share", 1.1),
    ],
)
def test_settings_that_are_not_allowed_are_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=rf"^\w+\.{key}.* must "):
        dataclasses.replace(CONFIG, **{key: value})


def test_all_attribute_weights_zero_trains_categories_alone():
    output, batch = draw()
    config = dataclasses.replace(CONFIG, attribute_weights=(0.0, 0.0, 0.0), emotion_weight=1.0)
    loss, metrics, (to_attributes, _) = loss_and_gradient(output, batch, config)
    assert loss == metrics["loss/emotion"]
    np.testing.assert_array_equal(to_attributes, 0.0)


def test_squared_error_needs_one_label_and_the_mix_two():
    output, batch = draw()
    batch = batch.replace(attributes=batch.attributes.at[1:, 1].set(jnp.nan).at[:, 2].set(jnp.nan))
    config = dataclasses.replace(CONFIG, attribute_weights=(0.2, 0.6, 0.2), emotion_weight=0.0, attribute_loss="mse")
    loss, metrics, _ = loss_and_gradient(output, batch, config)
    errors = np.square(np.asarray(output.attributes) - np.asarray(batch.attributes))
    activation, valence = errors[:, 0].mean(), errors[0, 1]
    assert loss == pytest.approx((0.2 * activation + 0.6 * valence) / 0.8, abs=1e-6)
    assert metrics["loss/mse_valence"] == pytest.approx(valence, abs=1e-6)
    assert metrics["loss/mse_dominance"] == 0
    assert "loss/ccc_valence" not in metrics
    mixed = dataclasses.replace(config, attribute_loss="mix", mse_share=0.25)
    loss, metrics, (gradient, _) = loss_and_gradient(output, batch, mixed)
    assert loss == pytest.approx(0.75 * metrics["loss/ccc_activation"] + 0.25 * activation, abs=1e-6)
    np.testing.assert_array_equal(gradient[:, 1:], 0.0)


def test_a_term_is_added_to_the_loss_by_its_weight(monkeypatch):
    def size_term(output, batch, settings):
        size = jnp.square(output.attributes).mean()
        return size, {"loss/size": size}

    output, batch = draw()
    before = multitask_loss(output, batch, {}, CONFIG, jnp.ones(C))[0]
    monkeypatch.setitem(LABEL_TERMS, "size", WeightedTerm(size_term, lambda settings: 0.5))
    loss, metrics = multitask_loss(output, batch, {}, CONFIG, jnp.ones(C))
    assert metrics["loss"] == loss
    assert float(loss) == pytest.approx(float(before + 0.5 * metrics["loss/size"]), rel=1e-6)
