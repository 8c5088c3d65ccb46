"""Scores of rating distributions against scipy, sklearn and closed forms."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import sklearn.metrics

from emojax.metrics import distribution_scores as scores

VALUES = np.arange(1.0, 6.0)


def draw(n=30, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(5), (n, 3))
    counts = rng.integers(0, 4, (n, 3, 5)).astype(float)
    counts[3] = 0
    return probabilities, counts


def single_ratings(counts, column):
    rows, values = [], []
    for row, histogram in enumerate(counts[:, column].astype(int)):
        values += np.repeat(np.arange(5), histogram).tolist()
        rows += [row] * histogram.sum()
    return rows, values


@pytest.mark.parametrize("level", [0.05, 0.25, 0.5, 0.9, 1.0])
def test_moments_and_quantiles_are_those_of_scipy(level):
    probabilities, _ = draw()
    found = scores.quantile(probabilities, VALUES, level)
    deviations, means = scores.spread(probabilities, VALUES), scores.expectation(probabilities, VALUES)
    for index in np.ndindex(probabilities.shape[:2]):
        reference = scipy.stats.rv_discrete(values=(VALUES, probabilities[index]))
        assert found[index] == reference.ppf(level)
        assert deviations[index] == pytest.approx(reference.std())
        assert means[index] == pytest.approx(reference.mean())


def test_quantiles_at_sums_of_probabilities_do_not_depend_on_rounding():
    assert scores.quantile(np.array([0.1, 0.2, 0.3, 0.3, 0.1]), VALUES, 0.6) == 3
    assert scores.quantile(np.array([1.0, 0, 0, 0, 0]), VALUES, 1.0) == 1


def test_the_likelihood_is_sklearns_log_loss_of_single_ratings():
    probabilities, counts = draw()
    found = scores.negative_log_likelihood(probabilities, counts)
    for column in range(3):
        rows, values = single_ratings(counts, column)
        expected = sklearn.metrics.log_loss(values, probabilities[rows, column], labels=range(5))
        assert found[column] == pytest.approx(expected)


def test_the_crps_is_the_integral_of_its_definition_and_the_energy_form():
    """Integrals of scipy's distribution functions, and E|X − y| − E|X − X'| / 2 (Gneiting and Raftery 2007)."""
    probabilities, counts = draw(4)
    found = scores.crps(probabilities, counts, VALUES)
    distance = np.abs(VALUES[:, None] - VALUES)
    for column in range(3):
        integrals, energies = [], []
        for row, value in zip(*single_ratings(counts, column), strict=True):
            p = probabilities[row, column]
            cdf = scipy.stats.rv_discrete(values=(VALUES, p)).cdf
            grid = np.arange(0.5, 5.5, 0.001) + 0.0005
            integrals.append(scipy.integrate.trapezoid((cdf(grid) - (grid >= VALUES[value])) ** 2, grid))
            energies.append(p @ distance[value] - p @ distance @ p / 2)
        assert found[column] == pytest.approx(np.mean(energies))
        assert found[column] == pytest.approx(np.mean(integrals), abs=2e-3)


def test_the_crps_of_one_value_is_the_absolute_error():
    counts = np.zeros((1, 1, 5))
    counts[0, 0, [0, 4]] = 1, 3
    certain = np.eye(5)[None, None, 1]
    assert scores.crps(certain, counts, VALUES)[0] == pytest.approx((1 + 3 * 3) / 4)


def test_the_coverage_of_the_true_distribution_is_the_level_and_of_too_narrow_ones_less():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), (4000, 1))
    counts = np.array([[rng.multinomial(5, p)] for p in probabilities[:, 0]], float)
    levels = np.array(scores.COVERAGE_LEVELS)
    found = scores.coverage(probabilities, counts, levels)[:, 0]
    np.testing.assert_allclose(found, levels, atol=0.015)
    narrow = probabilities**3 / (probabilities**3).sum(axis=-1, keepdims=True)
    assert (scores.coverage(narrow, counts, levels)[2:, 0] < levels[2:] - 0.02).all()


def test_the_coverage_is_the_mean_over_the_randomised_transform():
    probabilities, counts = draw(20)
    counts = np.minimum(counts, 1)
    rng = np.random.default_rng(0)
    for column in range(3):
        rows, values = map(np.array, single_ratings(counts, column))
        upper = probabilities[:, column].cumsum(axis=1)[rows, values]
        drawn = upper - probabilities[rows, column, values] * rng.random((4000, len(rows)))
        within = (drawn >= 0.15) & (drawn <= 0.85)
        assert scores.coverage(probabilities, counts, np.array([0.7]))[0, column] == pytest.approx(
            within.mean(), abs=0.01
        )


def test_the_histograms_themselves_have_the_best_likelihood_and_the_marginal_that_of_no_input():
    probabilities, counts = draw()
    best = scores.negative_log_likelihood(scores.histogram_shares(counts), counts)
    marginal = scores.negative_log_likelihood(scores.marginal_distribution(counts), counts)
    assert (best < marginal).all()
    entropy = [scipy.stats.entropy(counts[:, column].sum(axis=0)) for column in range(3)]
    np.testing.assert_allclose(marginal, entropy)
    assert (best < scores.negative_log_likelihood(probabilities, counts)).all()


def test_without_ratings_scores_are_nan_and_an_impossible_rating_has_an_infinite_likelihood():
    probabilities, counts = draw()
    none = np.zeros_like(counts)
    assert np.isnan(scores.negative_log_likelihood(probabilities, none)).all()
    assert np.isnan(scores.crps(probabilities, none, VALUES)).all()
    assert np.isnan(scores.coverage(probabilities, none, np.array([0.5]))).all()
    certain, chosen = np.eye(5)[None, None, 0], np.eye(5)[None, None, 4]
    assert np.isinf(scores.negative_log_likelihood(certain, chosen)).all()
    assert scores.coverage(certain, chosen, np.array([0.9])) == 0
