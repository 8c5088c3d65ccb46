"""Linear baselines: solutions equal scikit-learn's, tuning never reads the predicted utterances."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from emojax.cross_validation.linear import Labelled, predict_linear
from emojax.training.linear_models import fit_logistic, fit_ridge


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(30, 5), (8, 20)])
def test_ridge_equals_scikit_learn(rng, shape):
    features, labels = rng.normal(1, 2, shape), rng.normal(size=shape[0])
    weights, intercepts = fit_ridge(features, labels, (0.5, 20.0))
    for number, penalty in enumerate((0.5, 20.0)):
        reference = Ridge(alpha=penalty).fit(features, labels)
        np.testing.assert_allclose(weights[number], reference.coef_, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(intercepts[number], reference.intercept_, rtol=1e-7)


@pytest.mark.parametrize("shape", [(60, 6), (20, 50)])
def test_logistic_equals_scikit_learn(rng, shape):
    features, labels = rng.normal(size=shape), rng.integers(0, 3, shape[0])
    for penalty, parameters in zip((4.0, 1.0), fit_logistic(features, labels, 3, (4.0, 1.0)), strict=True):
        reference = LogisticRegression(C=1 / penalty, class_weight="balanced", tol=1e-8, max_iter=1000)
        reference.fit(features, labels)
        np.testing.assert_allclose(parameters[:-1].T, reference.coef_, atol=2e-3)
        found = features @ parameters[:-1] + parameters[-1]
        np.testing.assert_allclose(found - found.mean(axis=1, keepdims=True), _centred(reference, features), atol=1e-2)


def _centred(model, features):
    logits = model.decision_function(features)
    return logits - logits.mean(axis=1, keepdims=True)


def test_the_layer_with_the_information_is_chosen_and_labels_may_be_missing(rng):
    speakers = np.repeat(list("abcdef"), 20)
    emotion = rng.integers(0, 3, 120)
    attributes = rng.normal(size=(120, 3))
    features = rng.normal(size=(120, 2, 4))
    features[:, 1, :3] += 3 * np.eye(3)[emotion]
    features[:, 0] = rng.normal(size=(120, 4)) * 0.1
    features[:, 0, 0] += attributes[:, 0]
    emotion[::7] = -1
    attributes[::5, 0] = np.nan
    attributes[:, 2] = np.nan
    training = Labelled(attributes[:100], emotion[:100], speakers[:100], 3)
    found = predict_linear(features[:100], training, features[100:])
    assert found.chosen["emotion"]["layer"] == 1
    assert found.chosen["activation"]["layer"] == 0
    known = emotion[100:] >= 0
    assert (found.probabilities.argmax(axis=1) == emotion[100:])[known].mean() > 0.8
    assert np.isnan(found.attributes[:, 2]).all()
    labelled = ~np.isnan(attributes[100:, 0])
    assert np.corrcoef(found.attributes[labelled, 0], attributes[100:][labelled, 0])[0, 1] > 0.9


def test_without_two_labels_nothing_is_predicted(rng):
    training = Labelled(np.full((9, 3), np.nan), np.zeros(9, int), np.array(list("aaabbbccc")), 2)
    found = predict_linear(rng.normal(size=(9, 1, 2)), training, rng.normal(size=(4, 1, 2)))
    assert np.isnan(found.attributes).all()
    assert found.probabilities.shape == (4, 0)
