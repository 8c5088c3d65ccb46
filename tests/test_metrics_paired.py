"""Paired differences of two systems, resampled over the same speakers."""

import numpy as np
import pytest
from audmetric import concordance_cc

from emojax.metrics.bootstrap import bootstrap_classification, bootstrap_regression
from emojax.metrics.paired import bootstrap_gain, bootstrap_mean_ccc, bootstrap_mean_uar, bootstrap_uar_gain


def systems(n=400, num_speakers=20, seed=0):
    """Labels, a system with two seeds, and a better one with correlated errors per speaker."""
    random = np.random.default_rng(seed)
    labels = random.normal(3, 0.5, (n, 3))
    speakers = [f"s{i % num_speakers}" for i in range(n)]
    hard = random.normal(0, 0.6, num_speakers)[np.arange(n) % num_speakers, None]
    weak = [labels + hard + random.normal(0, 0.55, (n, 3)) for _ in range(2)]
    strong = [labels + hard + random.normal(0, 0.4, (n, 3)) for _ in range(3)]
    return labels, speakers, weak, strong


def test_values_are_differences_of_mean_cccs():
    labels, speakers, weak, strong = systems()
    found = bootstrap_gain(weak, strong, labels, speakers, 50)["valence"]
    first, second = (np.mean([concordance_cc(labels[:, 1], p[:, 1]) for p in part]) for part in (weak, strong))
    assert found["before"] == pytest.approx(first, abs=1e-9)
    assert found["after"] == pytest.approx(second, abs=1e-9)
    assert found["gain"] == pytest.approx(second - first, abs=1e-9)
    assert found["relative"] == pytest.approx(second / first - 1, abs=1e-9)


def test_paired_interval_is_narrower_than_unpaired_ones():
    labels, speakers, weak, strong = systems()
    found = bootstrap_gain(weak[:1], strong[:1], labels, speakers)["activation"]
    alone = bootstrap_regression(strong[0], labels, speakers)["ccc"]["activation"]
    assert 0 < found["low"] < found["gain"] < found["high"]
    assert found["high"] - found["low"] < 0.7 * (alone["high"] - alone["low"])
    assert found["relative_low"] > 0


def test_paired_interval_equals_explicit_resampling_of_speakers():
    labels, speakers, weak, strong = systems(n=60, num_speakers=6)
    random = np.random.default_rng(3)
    gains = []
    for _ in range(2000):
        drawn = np.concatenate([np.arange(60)[np.arange(60) % 6 == s] for s in random.integers(6, size=6)])
        scores = [concordance_cc(labels[drawn, 0], run[drawn, 0]) for run in (weak[0], strong[0])]
        gains.append(scores[1] - scores[0])
    found = bootstrap_gain(weak[:1], strong[:1], labels, speakers, 2000)["activation"]
    width = np.ptp(np.percentile(gains, [2.5, 97.5]))
    np.testing.assert_allclose([found["low"], found["high"]], np.percentile(gains, [2.5, 97.5]), atol=0.06 * width)


def test_gain_over_itself_is_zero_and_missing_labels_are_ignored():
    labels, speakers, weak, _ = systems()
    labels[::3, 2] = np.nan
    found = bootstrap_gain(weak, weak, labels, speakers, 50)
    assert all(found[name][end] == 0 for name in found for end in ("gain", "low", "high", "relative"))
    labels[:] = np.nan
    assert np.isnan(bootstrap_gain(weak, weak, labels, speakers, 50)["dominance"]["gain"])


def test_paired_differences_of_uar_equal_explicit_resampling():
    random = np.random.default_rng(0)
    labels = random.integers(3, size=90)
    speakers = [f"s{n % 6}" for n in range(90)]
    first, second = (np.where(random.random(90) < share, labels, random.integers(3, size=90)) for share in (0.3, 0.6))
    labels[::10] = -1

    def uar(rows, predictions):
        rows = rows[labels[rows] >= 0]
        return np.mean([(predictions[rows][labels[rows] == c] == c).mean() for c in range(3)])

    gains = []
    for _ in range(2000):
        drawn = np.concatenate([np.arange(90)[np.arange(90) % 6 == s] for s in random.integers(6, size=6)])
        gains.append(uar(drawn, second) - uar(drawn, first))
    found = bootstrap_uar_gain([first], [second], labels, 3, speakers, 2000)
    everything = np.arange(90)
    assert found["before"] == pytest.approx(uar(everything, first))
    assert found["gain"] == pytest.approx(uar(everything, second) - uar(everything, first))
    assert found["relative"] == pytest.approx(uar(everything, second) / uar(everything, first) - 1)
    width = np.ptp(np.percentile(gains, [2.5, 97.5]))
    np.testing.assert_allclose([found["low"], found["high"]], np.percentile(gains, [2.5, 97.5]), atol=0.08 * width)


def test_mean_scores_of_one_run_are_its_scores_and_of_several_their_mean():
    labels, speakers, _, strong = systems()
    runs = [bootstrap_regression(each, labels, speakers, 100)["ccc"]["valence"] for each in strong]
    assert bootstrap_mean_ccc(strong[:1], labels, speakers, 100)["valence"] == pytest.approx(runs[0])
    found = bootstrap_mean_ccc(strong, labels, speakers, 100)["valence"]
    assert found["value"] == pytest.approx(np.mean([run["value"] for run in runs]))
    # The errors that speakers share do not average out over runs.
    assert min(run["low"] for run in runs) <= found["low"] < found["high"] <= max(run["high"] for run in runs)
    categories = np.random.default_rng(0).integers(3, size=len(labels))
    guesses = [np.where(np.random.default_rng(seed).random(len(labels)) < 0.5, categories, 0) for seed in (1, 2)]
    arguments = (categories, 3, speakers, 100)
    alone = [bootstrap_classification(guess, *arguments)["uar"] for guess in guesses]
    assert bootstrap_mean_uar(guesses[:1], *arguments) == pytest.approx(alone[0])
    assert bootstrap_mean_uar(guesses, *arguments)["value"] == pytest.approx(np.mean([each["value"] for each in alone]))
    gain = bootstrap_uar_gain(guesses[:1], guesses, *arguments)
    assert gain["gain"] == pytest.approx((alone[1]["value"] - alone[0]["value"]) / 2)
