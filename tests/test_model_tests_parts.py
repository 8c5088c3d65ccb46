"""Parts of the model tests against definitions: groups, chance, distances, outcomes, tables of groups."""

import numpy as np
import pytest

from emojax.errors import ConfigError
from emojax.metrics import confusion_matrix, uar
from emojax.metrics.scores import ccc
from emojax.model_tests.chance import (
    ccc_differences,
    class_differences,
    random_values,
    shifts,
    simulated_bounds,
)
from emojax.model_tests.correctness import jensen_shannon_distance
from emojax.model_tests.groups import bins_of, match_groups
from emojax.model_tests.results import at_least, at_most, share_of, shares_by_group, skipped, status_of_test
from emojax.model_tests.sentiment import sentiment_shifts
from emojax.model_tests.utterances import read_groups


def test_matched_groups_have_equal_size_and_labels():
    random = np.random.default_rng(0)
    groups = random.choice(["a", "b", "c", ""], 400, p=[0.5, 0.3, 0.18, 0.02]).tolist()
    strata = random.integers(-1, 4, 400)
    matched = match_groups(groups, strata, 30, np.random.default_rng(0))
    assert matched.names == ("a", "b", "c")
    assert len(set(matched.rows.tolist())) == len(matched.rows)
    for number, name in enumerate(matched.names):
        rows = matched.rows[matched.group == number]
        assert {groups[row] for row in rows} == {name}
        counts = np.bincount(strata[rows], minlength=4)
        np.testing.assert_array_equal(counts, np.bincount(strata[matched.rows[matched.group == 0]], minlength=4))
    assert (strata[matched.rows] >= 0).all()


def test_groups_that_are_too_small_are_named():
    groups = ["a"] * 50 + ["b"] * 40 + ["c"] * 5
    matched = match_groups(groups, np.zeros(95, int), 30, np.random.default_rng(0))
    assert matched.names == ("a", "b")
    assert "groups of fewer than 30 utterances: c (5)" in matched.note
    one = match_groups(["a"] * 50, np.zeros(50, int), 30, np.random.default_rng(0))
    assert one.names == ()
    assert one.note == "at least 2 groups are needed, got 1 group"
    disjoint = match_groups(["a"] * 40 + ["b"] * 40, np.arange(80) // 40, 30, np.random.default_rng(0))
    assert disjoint.names == ()
    assert disjoint.note.startswith("0 utterances per group after matching")


def test_differences_equal_scores_of_each_group_less_those_of_all():
    random = np.random.default_rng(1)
    group = random.integers(0, 3, 90)
    labels, predicted = random.random(90), random.random((90, 2))
    found = ccc_differences(predicted, labels, group, 3)
    for model in range(2):
        whole = ccc(predicted[:, [model]], labels[:, None])[0]
        for number in range(3):
            part = ccc(predicted[group == number][:, [model]], labels[group == number][:, None])[0]
            assert found[model, number] == pytest.approx(abs(part - whole))
    moved = shifts(predicted, group, 3)
    assert moved[1, 2] == pytest.approx(abs(predicted[group == 2, 1].mean() - predicted[:, 1].mean()))


def test_differences_of_recall_precision_and_uar_equal_those_of_confusion_matrices():
    random = np.random.default_rng(2)
    group, labels = random.integers(0, 2, 120), random.integers(0, 3, 120)
    predicted = random.integers(0, 3, (2, 120))
    found = class_differences(predicted, labels, group, 2, 3)
    for model in range(2):
        whole = confusion_matrix(predicted[model], labels, 3)
        for number in range(2):
            part = confusion_matrix(predicted[model][group == number], labels[group == number], 3)
            assert found["uar"][model, number] == pytest.approx(abs(uar(part) - uar(whole)))
            recall = [abs(p[c, c] / p[c].sum() - w[c, c] / w[c].sum()) for p, w in [(part, whole)] for c in range(3)]
            np.testing.assert_allclose(found["recall"][model, number], recall)
            precision = [abs(part[c, c] / part[:, c].sum() - whole[c, c] / whole[:, c].sum()) for c in range(3)]
            np.testing.assert_allclose(found["precision"][model, number], precision)


def test_chance_exceeds_a_simulated_threshold_as_often_as_its_level():
    labels = np.random.default_rng(3).random(80)
    group = np.arange(80) % 2

    def simulate(random, models):
        return {"ccc": ccc_differences(random.choice(labels, (80, models)), labels, group, 2)}

    bound = float(simulated_bounds(simulate, 80, 1000, 0.05, seed=0)["ccc"])
    fresh = simulate(np.random.default_rng(99), 2000)["ccc"].max(axis=1)
    assert (fresh > bound).mean() == pytest.approx(0.05, abs=0.02)
    larger = float(simulated_bounds(simulate, 80, 1000, 0.5, seed=0)["ccc"])
    assert larger < bound


def test_thresholds_of_small_groups_are_wider():
    def bound(size):
        group = np.arange(size) % 2

        def simulate(random, models):
            return {"shift": shifts(random_values(random, (size, models), None), group, 2)}

        return float(simulated_bounds(simulate, size, 500, 0.05, seed=0)["shift"])

    assert bound(60) == pytest.approx(3 * bound(540), rel=0.15)  # as the square root of the size


def test_bins_are_quarters_of_the_scale():
    np.testing.assert_array_equal(bins_of(np.array([-0.2, 0.0, 0.25, 0.7, 1.0, 1.3, np.nan])), [0, 0, 1, 2, 3, 3, -1])


def test_jensen_shannon_distance_is_0_for_equal_and_1_for_disjoint_distributions():
    first, second = np.array([1.0, 3, 0, 0]), np.array([0, 0, 2.0, 2])
    assert jensen_shannon_distance(first, 5 * first) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon_distance(first, second) == pytest.approx(1)
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    middle = (p + q) / 2
    divergence = ((p * np.log2(p / middle)).sum() + (q * np.log2(q / middle)).sum()) / 2
    assert jensen_shannon_distance(p, q) == pytest.approx(np.sqrt(divergence))


def test_shifts_by_words_are_relative_to_the_mean_of_the_voice():
    order = np.array([0, 0, 1, 1])
    values = np.array([[[1.0, 3, 5, 7], [0, 0, 0, 0]]])
    np.testing.assert_allclose(sentiment_shifts(values, order), [[[-2, 2], [0, 0]]])


def test_values_at_the_threshold_pass_and_undefined_values_fail():
    assert at_least(0.5, 0.5).status == "passed"
    assert at_least(0.3 - 0.1, 0.2).status == "passed"  # 0.19999999999999998
    assert at_most(0.51, 0.5).status == "failed"
    undefined = at_least(float("nan"), -1.0)
    assert (undefined.status, undefined.value) == ("failed", None)
    assert "not defined" in undefined.note


def test_a_test_of_many_values_counts_as_much_as_one_of_few():
    results = [at_most(0, 1, test="many", group="robustness") for _ in range(10)]
    results += [at_most(2, 1, test="few", group="fairness"), skipped("why", test="none", group="fairness")]
    share = share_of(results)
    assert (share.share, share.tests, share.tests_passed, share.tests_skipped) == (0.5, 2, 1, 1)
    assert (share.passed, share.failed, share.skipped) == (10, 1, 1)
    by_group = shares_by_group(results)
    assert by_group["correctness"].share is None
    assert by_group["fairness"].share == 0
    assert status_of_test(results[-1:]) == "skipped"
    assert status_of_test(results) == "failed"


def test_groups_are_read_by_id_or_speaker(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("speaker,accent,sex\ns1,north,female\ns2,south,\n")
    found = read_groups(path, ["a", "b", "c"], ["s2", "s1", "s3"])
    assert found == {"accent": ["south", "north", ""], "sex": ["", "female", ""]}
    path.write_text("id,language\nb,de\n")
    assert read_groups(path, ["a", "b"], ["s", "s"]) == {"language": ["", "de"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,speaker,sex\n", "must have a column id or speaker"),
        ("speaker,age\ns1,30\n", "must have a column id or speaker"),
        ("speaker\ns1\n", "must have a column id or speaker"),
        ("speaker,sex\ns1,f\ns1,m\n", "must occur once"),
        ("speaker,sex\nother,f\n", "has no speaker of the tested utterances"),
        ("", "must have a column id or speaker"),
    ],
)
def test_a_wrong_table_of_groups_is_one_error(tmp_path, content, message):
    path = tmp_path / "groups.csv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_groups(path, ["a"], ["s1"])


def test_a_missing_table_of_groups_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_groups(tmp_path / "none.csv", ["a"], ["s1"])
