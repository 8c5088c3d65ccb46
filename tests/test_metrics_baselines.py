"""Mean and random baselines: values, distribution and scores."""

import numpy as np
import pytest

from emojax.metrics import (
    ccc,
    confusion_matrix,
    majority_emotion,
    mean_attributes,
    random_attributes,
    random_emotion,
    rmse,
    uar,
)


def test_mean_predictor_predicts_the_training_mean_and_scores_zero():
    rng = np.random.default_rng(0)
    train, test = rng.random((500, 3)).astype(np.float32), rng.random((200, 3))
    train[:100, 1] = np.nan
    predictions = mean_attributes(train, 200)
    np.testing.assert_allclose(predictions, np.tile(np.nanmean(train, axis=0), (200, 1)), rtol=1e-6)
    np.testing.assert_array_equal(ccc(predictions, test), np.zeros(3))
    # Of all constants, the mean has the least error.
    assert (rmse(mean_attributes(test, 200), test) <= rmse(predictions, test)).all()


def test_random_predictor_draws_from_the_training_labels_and_scores_about_zero():
    rng = np.random.default_rng(0)
    train, test = rng.beta(2, 5, (3000, 3)), rng.beta(2, 5, (20_000, 3))
    train[:1000, 0] = np.nan
    predictions = random_attributes(train, 20_000, seed=1)
    for column in range(3):
        assert np.isin(predictions[:, column], train[:, column]).all()
    np.testing.assert_allclose(
        np.quantile(predictions, [0.1, 0.5, 0.9], axis=0), np.nanquantile(train, [0.1, 0.5, 0.9], axis=0), atol=0.01
    )
    np.testing.assert_allclose(ccc(predictions, test), 0, atol=0.03)


def test_attribute_without_training_labels_is_predicted_as_nan():
    train = np.array([[np.nan, 0.5, 0.5]])
    for predictions in (mean_attributes(train, 4), random_attributes(train, 4, seed=0)):
        assert np.isnan(predictions[:, 0]).all()
        assert (predictions[:, 1:] == 0.5).all()


def test_category_predictors_ignore_missing_labels_and_have_chance_recall():
    rng = np.random.default_rng(0)
    train = np.concatenate([np.full(900, -1), rng.choice(3, 1000, p=[0.2, 0.5, 0.3])])
    test = rng.choice(3, 30_000, p=[0.2, 0.5, 0.3])
    majority, drawn = majority_emotion(train, 30_000), random_emotion(train, 30_000, seed=0)
    assert set(majority.tolist()) == {1}
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 30_000, [0.2, 0.5, 0.3], atol=0.04)
    for predictions in (majority, drawn):
        assert uar(confusion_matrix(predictions, test, 3)) == pytest.approx(1 / 3, abs=0.01)


def test_draws_depend_on_the_seed():
    train = np.random.default_rng(0).random((50, 3))
    first, again, other = (random_attributes(train, 40, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    emotions = np.arange(7)
    assert (random_emotion(emotions, 40, 1) == random_emotion(emotions, 40, 1)).all()
    assert (random_emotion(emotions, 40, 1) != random_emotion(emotions, 40, 2)).any()


def test_categories_without_training_labels_raise():
    for predict in (lambda: majority_emotion(np.array([-1]), 3), lambda: random_emotion(np.array([-1]), 3, 0)):
        with pytest.raises(ValueError, match="must hold at least one category"):
            predict()
