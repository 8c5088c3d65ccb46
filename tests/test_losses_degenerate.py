"""Every loss term on batches that a real run meets at its edges: one row, equal rows, no labels, extreme values."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from emojax.config import parse_experiment
from emojax.errors import ConfigError
from emojax.losses import ccc_loss, class_weights, distilled_loss, embedding_loss, multitask_loss
from emojax.types import Batch, EmotionOutput, TeacherOutput

ROWS, CATEGORIES, SIZE = 6, 3, 4
KINDS = ("mse", "cosine", "cka", "relational")
CONDITIONS = ("none", "residual", "hard", "relative", "soft")
EXPERIMENT = parse_experiment(default.get_config().to_dict())

scales = st.sampled_from([0.0, 1e-20, 1e-6, 1e-3, 1.0, 1e3, 1e9, 1e15])
weights_of_rows = st.lists(st.sampled_from([0.0, 1.0]), min_size=ROWS, max_size=ROWS)
patterns = st.sampled_from(["random", "equal", "nearly equal", "pairs", "zero row"])


def rows_of(pattern: str, scale: float, size: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(ROWS, size))
    if pattern in ("equal", "nearly equal"):
        rows = np.tile(rows[:1], (ROWS, 1)) * (1 + (pattern == "nearly equal") * 1e-7 * random.normal(size=rows.shape))
    elif pattern == "pairs":
        rows[1::2] = rows[::2]
    elif pattern == "zero row":
        rows[0] = 0
    return (scale * rows).astype(np.float32)


def make_batch(weight, attributes, emotion, teacher=None, votes=None) -> Batch:
    unknown = np.full((ROWS, CATEGORIES), np.nan, np.float32)
    return Batch(
        waveform=jnp.zeros((ROWS, 4), jnp.int16),
        num_samples=jnp.full(ROWS, 4, jnp.int32),
        tokens=jnp.zeros((ROWS, 0), jnp.int32),
        num_tokens=jnp.zeros(ROWS, jnp.int32),
        attributes=jnp.asarray(attributes, jnp.float32),
        emotion=jnp.asarray(emotion, jnp.int32),
        emotion_votes=jnp.asarray(unknown if votes is None else votes, jnp.float32),
        weight=jnp.asarray(weight, jnp.float32),
        index=jnp.arange(ROWS, dtype=jnp.int32),
        teacher=teacher,
    )


embedding_gradient = jax.jit(jax.value_and_grad(embedding_loss), static_argnames="kind")


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    kind=st.sampled_from(KINDS),
    weights=weights_of_rows,
    student=st.tuples(patterns, scales),
    teacher=st.tuples(patterns, scales),
    same=st.booleans(),
    variance=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 1000),
)
def test_distances_of_embeddings_are_finite_and_bounded(kind, weights, student, teacher, same, variance, seed):
    first = rows_of(*student, SIZE, seed)
    second = first if same else rows_of(*teacher, SIZE, seed + 1)
    loss, gradient = embedding_gradient(first, second, jnp.asarray(weights), kind=kind, teacher_variance=variance)
    size = 1.0 + float(np.abs(first).max()) + float(np.abs(second).max())
    # The squared error grows with the student; the others do not depend on its scale.
    assert 0 - 1e-5 <= loss <= (1e9 * size**2 if kind == "mse" else 4 * ROWS**2)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() <= (1e9 * size if kind == "mse" else 1e6)
    if sum(weights) < (1 if kind == "cosine" else 2):
        assert loss == 0
        assert not np.asarray(gradient).any()


@pytest.mark.parametrize("kind", ["mse", "cka", "relational"])
def test_a_single_row_has_no_distance_of_sets(kind):
    """97 utterances in batches of 8 leave one row."""
    random = np.random.default_rng(0)
    first, second = (jnp.asarray(random.normal(size=(ROWS, SIZE)), jnp.float32) for _ in range(2))
    loss, gradient = embedding_gradient(first, second, jnp.eye(ROWS)[2], kind=kind)
    assert loss == 0
    assert not np.asarray(gradient).any()


def test_the_squared_error_to_a_constant_teacher_is_that_of_an_ordinary_one():
    random = np.random.default_rng(0)
    student = jnp.asarray(random.normal(size=(ROWS, SIZE)), jnp.float32)
    constant = jnp.ones((ROWS, SIZE))
    ordinary = embedding_loss(student, constant + random.normal(size=(ROWS, SIZE)), jnp.ones(ROWS), "mse", float(SIZE))
    # A tenth of the variance over the training data.
    assert embedding_loss(student, constant, jnp.ones(ROWS), "mse", float(SIZE)) < 20 * ordinary
    assert embedding_loss(student, constant, jnp.ones(ROWS), "mse") < 1e4


@pytest.mark.parametrize("kind", KINDS)
def test_floors_leave_an_ordinary_batch_as_it_is(kind):
    """The definitions in float64, without any floor."""
    random = np.random.default_rng(1)
    student, teacher = random.normal(size=(ROWS, SIZE)) + 3, random.normal(size=(ROWS, SIZE)) * 2 - 1
    centred = [rows - rows.mean(axis=0) for rows in (student, teacher)]
    kernels = [rows @ rows.T for rows in centred]
    upper = np.triu_indices(ROWS, 1)
    distances = [np.linalg.norm(rows[:, None] - rows, axis=-1)[upper] for rows in (student, teacher)]
    lengths = [np.linalg.norm(rows, axis=1) for rows in (student, teacher)]
    expected = {
        "mse": np.square(student - teacher).sum() / np.square(centred[1]).sum(),
        "cosine": (1 - (student * teacher).sum(axis=1) / lengths[0] / lengths[1]).mean(),
        "cka": 1 - (kernels[0] * kernels[1]).sum() / np.sqrt((kernels[0] ** 2).sum() * (kernels[1] ** 2).sum()),
        "relational": np.square(distances[0] / distances[0].mean() - distances[1] / distances[1].mean()).mean(),
    }[kind]
    arrays = (jnp.asarray(rows, jnp.float32) for rows in (student, teacher))
    loss = embedding_loss(*arrays, jnp.ones(ROWS), kind, float(np.square(centred[1]).sum() / ROWS))
    assert loss == pytest.approx(expected, rel=2e-5)


ccc_gradient = jax.jit(jax.value_and_grad(lambda *arrays: ccc_loss(*arrays).sum()))


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    weights=st.lists(st.sampled_from([0.0, 1e-30, 1e-6, 0.3, 1.0]), min_size=ROWS, max_size=ROWS),
    predicted=st.tuples(patterns, scales),
    labels=patterns,
    missing=st.integers(0, 2**ROWS - 1),
    seed=st.integers(0, 1000),
)
def test_ccc_is_finite_and_bounded(weights, predicted, labels, missing, seed):
    truth = 0.5 + 0.1 * rows_of(labels, 1.0, 3, seed)
    truth[[bool(missing >> row & 1) for row in range(ROWS)]] = np.nan
    loss, gradient = ccc_gradient(jnp.asarray(rows_of(*predicted, 3, seed)), jnp.asarray(truth), jnp.asarray(weights))
    assert 0 <= loss <= 3 * 2.001
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() <= 1e5  # 1 over twice the root of EPSILON


@functools.partial(jax.jit, static_argnames=("objective", "distillation"))
def gradients_of(output, batch, parameters, weights, objective, distillation):
    def loss(output, parameters):
        if batch.teacher is None:
            return multitask_loss(output, batch, parameters, objective, weights)[0]
        return distilled_loss(output, batch, parameters, objective, distillation, weights)[0]

    return jax.value_and_grad(loss, argnums=(0, 1))(output, parameters)


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(
    kinds=st.sampled_from([("consensus", "ccc"), ("votes", "mix")]),
    weights=weights_of_rows,
    scale=scales,
    emotion=st.lists(st.integers(-1, CATEGORIES - 1), min_size=ROWS, max_size=ROWS),
    counts=st.sampled_from([(0, 0, 0), (1, 1_000_000, 0), (5, 5, 5)]),
    log_variance=st.sampled_from([0.0, -1e3, 1e3, -9.0]),
    labels=st.sampled_from(["random", "equal", "missing"]),
    seed=st.integers(0, 1000),
)
def test_the_supervised_loss_is_finite_with_learned_weights_and_any_labels(
    kinds, weights, scale, emotion, counts, log_variance, labels, seed
):
    target, kind = kinds
    objective = dataclasses.replace(
        EXPERIMENT.objective,
        emotion_weight=1.0,
        weighting="learned",
        emotion_target=target,
        label_smoothing=0.1,
        attribute_loss=kind,
    )
    attributes = np.full((ROWS, 3), np.nan) if labels == "missing" else 0.5 + 0.1 * rows_of(labels, 1.0, 3, seed)
    votes = np.abs(rows_of("zero row", 1.0, CATEGORIES, seed))
    output = EmotionOutput(
        *(jnp.asarray(rows_of("random", scale, size, seed)) for size in (3, CATEGORIES)), jnp.zeros((ROWS, SIZE))
    )
    parameters = {"log_variance": jnp.full(4, log_variance)}
    batch = make_batch(weights, attributes, emotion, votes=votes)
    balance = class_weights(np.array(counts), "inverse_frequency")
    loss, gradients = gradients_of(output, batch, parameters, balance, objective, EXPERIMENT.distillation)
    assert np.isfinite(loss)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
    assert np.abs(gradients[0].emotion_logits).max() <= np.exp(10.0)
    if not sum(weights):
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    condition=st.sampled_from(CONDITIONS),
    kind=st.sampled_from(KINDS),
    attribute_loss=st.sampled_from(["ccc", "mix"]),
    weights=weights_of_rows,
    taught=st.tuples(patterns, st.sampled_from([0.0, 1e-9, 0.1, 1.0])),
    residual=st.sampled_from([0.0, 0.5, 1e6]),
    known=st.sampled_from(["all", "one", "none", "other"]),
    labels=st.sampled_from(["random", "equal", "missing"]),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_every_condition_and_loss_towards_a_teacher_is_finite(
    condition, kind, attribute_loss, weights, taught, residual, known, labels, scale, seed
):
    # One temperature and a fixed set of weights: a program for each pair of losses and condition, no more.
    settings = dataclasses.replace(
        EXPERIMENT.distillation,
        attribute_weight=1.0,
        attribute_loss=attribute_loss,
        emotion_weight=1.0,
        embedding_weight=1.0,
        embedding_loss=kind,
        condition=condition,
    )
    probabilities = {
        "all": np.full((ROWS, CATEGORIES), 1 / CATEGORIES),
        "one": np.tile(np.eye(CATEGORIES)[:1], (ROWS, 1)),
        "none": np.full((ROWS, CATEGORIES), np.nan),
        "other": np.zeros((ROWS, CATEGORIES)),
    }[known]
    teacher = TeacherOutput(
        attributes=jnp.asarray(0.5 + rows_of(*taught, 3, seed)),
        residual=jnp.full((ROWS, 3), residual, jnp.float32),
        emotion_probabilities=jnp.asarray(probabilities, jnp.float32),
        embedding=jnp.asarray(rows_of(*taught, SIZE, seed)),
        attribute_variance=jnp.full((ROWS, 3), 0.01),
        embedding_variance=jnp.full(ROWS, 1.0),
    )
    attributes = np.full((ROWS, 3), np.nan) if labels == "missing" else 0.5 + 0.1 * rows_of(labels, 1.0, 3, seed)
    output = EmotionOutput(*(jnp.asarray(rows_of("random", scale, size, seed)) for size in (3, CATEGORIES, SIZE)))
    parameters = {"projection": {"kernel": jnp.eye(SIZE), "bias": jnp.zeros(SIZE)}}
    batch = make_batch(weights, attributes, np.full(ROWS, -1), teacher)
    loss, gradients = gradients_of(output, batch, parameters, jnp.ones(CATEGORIES), EXPERIMENT.objective, settings)
    assert 0 - 1e-4 <= loss <= 1e5 * (1 + scale) ** 2
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() <= 1e6 * (1 + scale) ** 2
    if not sum(weights):
        assert loss == 0
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))


def test_a_teacher_whose_probability_is_in_other_categories_gives_no_uniform_target():
    settings = dataclasses.replace(EXPERIMENT.distillation, label_weight=0.0, emotion_weight=1.0)
    zeros, probabilities = jnp.zeros((ROWS, 3)), jnp.zeros((ROWS, CATEGORIES)).at[0, 1].set(0.2)
    teacher = TeacherOutput(zeros, zeros, probabilities, jnp.zeros((ROWS, SIZE)))
    output = EmotionOutput(zeros, jnp.zeros((ROWS, CATEGORIES)), jnp.zeros((ROWS, SIZE)))
    batch = make_batch(np.ones(ROWS), np.full((ROWS, 3), np.nan), np.full(ROWS, -1), teacher)
    _, (gradient, _) = gradients_of(output, batch, {}, jnp.ones(CATEGORIES), EXPERIMENT.objective, settings)
    assert gradient.emotion_logits[0, 1] < 0
    assert not np.asarray(gradient.emotion_logits[1:]).any()


@pytest.mark.parametrize("temperature", [0.0, 1e-20, 1e20, float("nan")])
def test_a_temperature_that_overflows_is_refused(temperature):
    with pytest.raises(ConfigError, match=r"temperature must be (>= 0\.01 and <= 100|a finite number), got"):
        dataclasses.replace(EXPERIMENT.distillation, temperature=temperature)
