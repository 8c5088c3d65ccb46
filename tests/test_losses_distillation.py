"""Distillation's losses against arithmetic, and their invariants."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from configs import default
from emojax.config import parse_experiment
from emojax.errors import ConfigError
from emojax.losses import DistillationConfig, class_weights, distilled_loss, embedding_loss, projection_parameters
from emojax.metrics import regression_scores
from emojax.types import Batch, EmotionOutput, TeacherOutput

ROWS, CATEGORIES = 24, 4


def config(**changes):
    return dataclasses.replace(parse_experiment(default.get_config().to_dict()).distillation, **changes)


OBJECTIVE = parse_experiment(default.get_config().to_dict()).objective


def example(seed=0, labelled=ROWS, rows=ROWS):
    """Output of a student, and a batch with a teacher whose predictions are close to half of the labels."""
    random = np.random.default_rng(seed)
    labels = random.uniform(size=(rows, 3)).astype(np.float32)
    predicted = np.clip(labels + random.normal(size=(rows, 3)) * random.choice([0.02, 0.4], size=(rows, 1)), 0, 1)
    residual = np.abs(predicted - labels) / 0.1
    residual[labelled:] = 0.0
    labels[labelled:] = np.nan
    probabilities = random.dirichlet(np.ones(CATEGORIES), rows)
    teacher = TeacherOutput(
        *(
            jnp.asarray(part, jnp.float32)
            for part in (predicted, residual, probabilities, random.normal(size=(rows, 6)))
        )
    )
    batch = Batch(
        waveform=jnp.zeros((rows, 4), jnp.int16),
        num_samples=jnp.full(rows, 4, jnp.int32),
        tokens=jnp.zeros((rows, 0), jnp.int32),
        num_tokens=jnp.zeros(rows, jnp.int32),
        attributes=jnp.asarray(labels),
        emotion=jnp.full(rows, -1, jnp.int32),
        emotion_votes=jnp.full((rows, CATEGORIES), jnp.nan),
        weight=jnp.ones(rows),
        index=jnp.arange(rows, dtype=jnp.int32),
        teacher=teacher,
    )
    output = EmotionOutput(*(jnp.asarray(random.normal(size=(rows, size)), jnp.float32) for size in (3, CATEGORIES, 5)))
    return output, batch


def loss_of(output, batch, settings, parameters=None):
    return distilled_loss(
        output, batch, parameters or {}, OBJECTIVE, settings, class_weights(np.ones(CATEGORIES), "none")
    )


def mean_ccc_loss(predictions, targets):
    scores = regression_scores(np.asarray(predictions, np.float64), np.asarray(targets, np.float64))["ccc"]
    return 1 - np.mean(list(scores.values()))


def test_without_weights_only_labels_count():
    output, batch = example()
    loss, _ = loss_of(output, batch, config())
    assert loss == pytest.approx(mean_ccc_loss(output.attributes, batch.attributes), rel=1e-5)
    alone, _ = loss_of(output, batch.replace(teacher=None), config(attribute_weight=3.0))
    assert alone == pytest.approx(float(loss), rel=1e-6)


def test_plain_distillation_is_the_ccc_to_the_teacher():
    output, batch = example()
    loss, metrics = loss_of(output, batch, config(label_weight=0.0, attribute_weight=2.0))
    assert loss == pytest.approx(2 * mean_ccc_loss(output.attributes, batch.teacher.attributes), rel=1e-5)
    assert metrics["trust/valence"] == 1
    squared = config(label_weight=0.0, attribute_weight=1.0, attribute_loss="mse")
    student, taught = np.asarray(output.attributes), np.asarray(batch.teacher.attributes)
    expected = np.mean(np.square(student - taught).mean(axis=0) / taught.var(axis=0))
    assert loss_of(output, batch, squared)[0] == pytest.approx(expected, rel=1e-4)
    mixed = dataclasses.replace(squared, attribute_loss="mix", mse_share=0.2)
    assert loss_of(output, batch, mixed)[0] == pytest.approx(0.4 * float(loss) + 0.2 * expected, rel=1e-4)


def test_residual_skips_what_the_teacher_predicts_badly():
    output, batch = example()
    settings = config(label_weight=0.0, attribute_weight=1.0, condition="residual")
    loss, metrics = loss_of(output, batch, settings)
    right = np.asarray(batch.teacher.residual) <= 1
    expected = np.where(right, batch.teacher.attributes, np.nan)
    assert loss == pytest.approx(mean_ccc_loss(output.attributes, expected), rel=1e-5)
    np.testing.assert_allclose(
        [metrics[f"trust/{name}"] for name in ("activation", "valence", "dominance")], right.mean(axis=0), rtol=1e-6
    )


def test_hard_follows_the_teacher_where_it_is_right_and_the_label_elsewhere():
    output, batch = example(labelled=18)
    loss, _ = loss_of(output, batch, config(label_weight=1.0, attribute_weight=0.5, condition="hard"))
    right = np.asarray(batch.teacher.residual) <= 1
    targets = np.where(right, batch.teacher.attributes, batch.attributes)
    assert right[18:].all()
    assert loss == pytest.approx(1.5 * mean_ccc_loss(output.attributes, targets), rel=1e-5)


def test_relative_counts_the_teacher_where_it_is_closer_to_the_label_than_the_student():
    output, batch = example(labelled=20)
    _, metrics = loss_of(output, batch, config(attribute_weight=1.0, condition="relative"))
    labels = np.asarray(batch.attributes)
    closer = np.abs(np.asarray(batch.teacher.attributes) - labels) < np.abs(np.asarray(output.attributes) - labels)
    assert metrics["trust/valence"] == pytest.approx((closer | np.isnan(labels))[:, 1].mean())


def test_soft_trust_falls_with_the_residual():
    output, batch = example()
    _, metrics = loss_of(output, batch, config(attribute_weight=1.0, condition="soft"))
    assert metrics["trust/activation"] == pytest.approx(
        np.exp(-np.asarray(batch.teacher.residual))[:, 0].mean(), rel=1e-5
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_categories_are_taught_by_divergence_at_a_temperature(temperature):
    output, batch = example()
    settings = config(label_weight=0.0, emotion_weight=1.0, temperature=temperature)
    loss, _ = loss_of(output, batch, settings)
    softened = scipy.special.softmax(np.log(np.asarray(batch.teacher.emotion_probabilities)) / temperature, axis=1)
    student = scipy.special.softmax(np.asarray(output.emotion_logits, np.float64) / temperature, axis=1)
    assert loss == pytest.approx(temperature**2 * scipy.stats.entropy(softened, student, axis=1).mean(), rel=1e-4)
    unknown = batch.teacher.replace(emotion_probabilities=jnp.full((ROWS, CATEGORIES), jnp.nan))
    assert loss_of(output, batch.replace(teacher=unknown), settings)[0] == 0


@pytest.mark.parametrize("condition", ["none", "residual", "hard", "relative", "soft"])
def test_rows_of_weight_0_and_attributes_that_the_teacher_lacks_have_no_influence(condition):
    settings = config(
        attribute_weight=1.0, emotion_weight=1.0, embedding_weight=1.0, embedding_loss="cka", condition=condition
    )
    output, batch = example(labelled=15)
    expected, _ = loss_of(*example(labelled=15), settings)

    def padded(rows, value):
        return jnp.concatenate([rows, jnp.full((3, *rows.shape[1:]), value, rows.dtype)])

    teacher = jax.tree.map(lambda rows: padded(rows, 7.0), batch.teacher)
    filled = jax.tree.map(lambda rows: padded(rows, 1), batch.replace(teacher=None))
    filled = filled.replace(teacher=teacher, weight=padded(batch.weight, 0.0))
    more = jax.tree.map(lambda rows: padded(rows, 9.0), output)
    assert loss_of(more, filled, settings)[0] == pytest.approx(float(expected), rel=1e-4)
    untaught = batch.teacher.replace(attributes=jnp.full((ROWS, 3), jnp.nan))
    assert np.isfinite(loss_of(output, batch.replace(teacher=untaught), settings)[0])


@hypothesis.settings(deadline=None, max_examples=15)
@hypothesis.given(seed=st.integers(0, 1000), kind=st.sampled_from(["mse", "cosine", "cka", "relational"]))
def test_embeddings_that_agree_have_distance_0_and_others_more(seed, kind):
    random = np.random.default_rng(seed)
    embeddings = jnp.asarray(random.normal(size=(12, 6)), jnp.float32)
    weights = jnp.asarray(random.integers(0, 2, 12).astype(np.float32)).at[:4].set(1.0)
    assert embedding_loss(embeddings, embeddings, weights, kind) == pytest.approx(0, abs=2e-3)
    other = jnp.asarray(random.normal(size=(12, 6)), jnp.float32)
    loss, gradient = jax.value_and_grad(embedding_loss)(other, embeddings, weights, kind)
    assert loss > 0.01
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[np.asarray(weights) == 0].any()


@pytest.mark.parametrize("kind", ["cka", "relational"])
def test_measures_without_coordinates_are_invariant_to_rotation_and_scale(kind):
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(20, 6))
    rotation, _ = np.linalg.qr(random.normal(size=(6, 6)))
    turned = jnp.asarray(3.0 * embeddings @ rotation + 1.0, jnp.float32)
    assert embedding_loss(turned, jnp.asarray(embeddings, jnp.float32), jnp.ones(20), kind) == pytest.approx(
        0, abs=1e-4
    )


def test_cka_equals_its_definition_by_kernels():
    random = np.random.default_rng(3)
    left, right = random.normal(size=(15, 4)), random.normal(size=(15, 7))
    centring = np.eye(15) - 1 / 15
    kernels = [centring @ rows @ rows.T @ centring for rows in (left, right)]
    expected = 1 - (kernels[0] * kernels[1]).sum() / np.sqrt((kernels[0] ** 2).sum() * (kernels[1] ** 2).sum())
    arrays = (jnp.asarray(rows, jnp.float32) for rows in (left, right))
    assert embedding_loss(*arrays, jnp.ones(15), "cka") == pytest.approx(expected, rel=1e-4)


def test_the_projection_is_learned_only_where_coordinates_are_compared():
    key = jax.random.key(0)
    assert projection_parameters(config(), key, 5, 6) == {}
    assert projection_parameters(config(embedding_weight=1.0, embedding_loss="cka"), key, 5, 6) == {}
    parameters = projection_parameters(config(embedding_weight=1.0), key, 5, 6)
    output, batch = example()

    def loss(parameters):
        return loss_of(output, batch, config(label_weight=0.0, embedding_weight=1.0), parameters)[0]

    gradient = jax.grad(loss)(parameters)
    assert np.abs(gradient["projection"]["kernel"]).sum() > 0
    settled, slopes_of = parameters, jax.jit(jax.grad(loss))
    for _ in range(300):
        settled = jax.tree.map(lambda value, slope: value - 0.3 * slope, settled, slopes_of(settled))
    assert loss(settled) < 0.9


@pytest.mark.parametrize(
    "changes",
    [{"label_weight": -1.0}, {"temperature": 0.0}, {"quantile": 1.0}, {"embedding_weight": float("inf")}],
)
def test_a_wrong_value_names_its_field(changes):
    with pytest.raises(ConfigError, match=rf"Config\.{next(iter(changes))} must be"):
        DistillationConfig(**{**dataclasses.asdict(config()), **changes})
