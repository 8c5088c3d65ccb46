"""Distributions of ratings in tables, summaries, windows, plots and pages."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from emojax.evaluation import Predictions, match_categories, summarise
from emojax.evaluation.ratings import RatingPredictions, concatenate_ratings, summarise_agreement, summarise_ratings
from emojax.evaluation.votes import scored_votes, summarise_votes
from emojax.evaluation.windows import Windows, predict_windows
from emojax.metrics import ccc
from emojax.parallel import MeshConfig, make_mesh
from emojax.reporting.page import render_page
from emojax.reporting.rating_plots import draw_ratings
from emojax.reporting.results import read_run
from emojax.types import Batch, EmotionOutput
from tests.evaluation_examples import predictions, write_workdir


def rated(n=60, bins=7, counted=7, seed=0):
    """Predictions with distributions; dominance is not predicted, the first utterance has no histogram."""
    rng = np.random.default_rng(seed)
    probabilities, counts = rng.dirichlet(np.ones(bins), (n, 3)), rng.integers(0, 3, (n, 3, counted)).astype(float)
    probabilities[:, 2] = np.nan
    counts[0] = 0
    stds = rng.uniform(0, 2, (n, 3))
    stds[0] = np.nan
    made = predictions(n=n)
    attributes = made.attributes.copy()
    attributes[:, 2] = np.nan
    ratings = RatingPredictions(made.corpus.scale, probabilities, counts, stds)
    return dataclasses.replace(made, attributes=attributes, ratings=ratings)


def test_a_table_of_distributions_is_read_back_exactly(tmp_path):
    made = rated()
    made.write_csv(tmp_path / "test.csv")
    read = Predictions.read_csv(tmp_path / "test.csv", made.corpus, "test")
    for name in ("probabilities", "counts", "stds"):
        np.testing.assert_array_equal(getattr(read.ratings, name), getattr(made.ratings, name))
    header = (tmp_path / "test.csv").read_text().splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    assert {"predicted_std_valence", "predicted_q95_activation", "predicted_share_valence_7"} <= set(header)


def test_a_table_without_distributions_is_as_before(tmp_path):
    made = rated(bins=0)
    made.write_csv(tmp_path / "with.csv")
    dataclasses.replace(made, ratings=None).write_csv(tmp_path / "without.csv")
    assert (tmp_path / "with.csv").read_bytes() == (tmp_path / "without.csv").read_bytes()
    assert Predictions.read_csv(tmp_path / "with.csv", made.corpus, "test").ratings is None


def test_spreads_are_compared_with_those_of_the_raters():
    made = rated()
    found = summarise_ratings(made.ratings)["attributes"]
    assert set(found) == {"activation", "valence"}
    spreads = [scipy.stats.rv_discrete(values=(range(7), p)).std() for p in made.ratings.probabilities[1:, 1]]
    expected = scipy.stats.pearsonr(spreads, made.ratings.stds[1:, 1]).statistic
    assert found["valence"]["spread_correlation"] == pytest.approx(expected)
    assert found["valence"]["utterances"] == (made.ratings.counts[:, 1].sum(axis=1) > 0).sum()


def test_strata_divide_utterances_by_agreement_and_are_scored_alone():
    rng = np.random.default_rng(0)
    labels, predicted = rng.uniform(1, 7, (90, 3)), rng.uniform(1, 7, (90, 3))
    stds = rng.permutation(np.repeat([0.0, 0.5, 1.2], 30))[:, None] * np.ones(3)
    predicted[:, 2], labels[0, 0] = np.nan, np.nan
    found = summarise_agreement(predicted, labels, stds)
    assert set(found) == {"activation", "valence"}
    for number, std in enumerate((0.0, 0.5, 1.2)):
        rows = stds[:, 1] == std
        part = found["valence"][number]
        assert (part["std_from"], part["std_to"], part["n"]) == (std, std, 30)
        assert part["ccc"] == pytest.approx(ccc(predicted[rows, 1:2], labels[rows, 1:2])[0])
        assert part["mae"] == pytest.approx(np.abs(predicted - labels)[rows, 1].mean())
    assert sum(part["n"] for part in found["activation"]) == 89
    assert len(summarise_agreement(predicted, labels, np.zeros((90, 3)))["valence"]) == 1
    assert summarise_agreement(predicted, labels, np.full((90, 3), np.nan)) == {}


@pytest.mark.parametrize(
    ("counted", "reason"),
    [(0, "the corpus has no histograms of ratings"), (5, "the model has 7 values, the corpus 5"), (7, "")],
)
def test_the_summary_is_strict_json_with_reasons(counted, reason):
    summary = summarise(rated(counted=counted), None, 10)
    json.dumps(summary, allow_nan=False)
    assert summary["ratings"]["undefined"] == reason
    assert ("nll" in summary["ratings"]["attributes"]["valence"]) == (counted == 7)
    assert set(summary["agreement"]) == {"activation", "valence"}
    assert "ratings" not in summarise(rated(bins=0, counted=counted), None, 10)


def test_folds_with_other_values_are_not_pooled():
    first, second = rated(n=20).ratings, rated(n=30, seed=1).ratings
    both = concatenate_ratings([first, second])
    np.testing.assert_array_equal(both.counts, np.concatenate([first.counts, second.counts]))
    assert concatenate_ratings([first, None]) is None
    assert concatenate_ratings([first, rated(bins=5).ratings]) is None


def test_distributions_of_windows_are_averaged_by_their_lengths():
    """Windows of 100 and 50 samples: the mean of their probabilities, weighted 2 : 1, and its expectation."""
    batch = Batch(
        waveform=np.concatenate([np.full((1, 100), 1), np.full((1, 50), 2)], axis=1).astype(np.int16),
        num_samples=np.array([150], np.int32),
        tokens=np.zeros((1, 0), np.int32),
        num_tokens=np.zeros(1, np.int32),
        attributes=np.zeros((1, 3), np.float32),
        emotion=np.zeros(1, np.int32),
        emotion_votes=np.zeros((1, 0), np.float32),
        weight=np.ones(1, np.float32),
        index=np.zeros(1, np.int32),
    )
    table = np.random.default_rng(0).dirichlet(np.ones(5), (2, 3))

    def forward(window):
        shares = jnp.asarray(table)[jnp.asarray(window.waveform[:, 0]) - 1]
        mean = shares @ jnp.linspace(0, 1, 5)
        return EmotionOutput(mean, jnp.zeros((1, 0)), jnp.zeros((1, 1)), rating_logits=jnp.log(shares))

    mesh = make_mesh(MeshConfig(1, 1), jax.devices()[:1])
    output = predict_windows(forward, batch, Windows(100), mesh)
    expected = (2 * table[0] + table[1]) / 3
    np.testing.assert_allclose(np.exp(output.rating_logits[0]), expected, rtol=1e-5)
    np.testing.assert_allclose(output.attributes[0], expected @ np.linspace(0, 1, 5), rtol=1e-5)


def test_the_plot_shows_what_is_known():
    assert len(draw_ratings(summarise(rated(), None, 10)).axes) == 2
    assert len(draw_ratings(summarise(rated(counted=0), None, 10)).axes) == 1
    assert draw_ratings(summarise(predictions(), None, 10)) is None


def test_the_page_has_a_table_of_distributions(tmp_path):
    workdir = write_workdir(tmp_path / "run")
    assert "Distributions of ratings" not in render_page([read_run(workdir)], [], [])
    summary = summarise(rated(), None, 10)
    (workdir / "evaluation" / "test.json").write_text(json.dumps(summary))
    page = render_page([read_run(workdir)], [], [])
    assert "Distributions of ratings" in page
    assert f"{summary['ratings']['attributes']['valence']['nll']:.3f}" in page


def test_votes_are_scored_over_the_shared_categories():
    match = match_categories(("anger", "sadness"), ("anger", "joy", "sadness"), ())
    votes = scored_votes(np.array([[0.2, 0.6, 0.2], [0.0, 1.0, 0.0], [np.nan] * 3, [0.9, 0.0, 0.1]]), match)
    np.testing.assert_allclose(votes, [[0.5, 0.5], [np.nan] * 2, [np.nan] * 2, [0.9, 0.1]])
    probabilities = np.array([[0.3, 0.7], [0.5, 0.5], [0.5, 0.5], [0.8, 0.2]])
    found = summarise_votes(probabilities, votes, np.array([-1, 0, 1, 0]))
    expected = sklearn.metrics.log_loss([0, 1, 0, 1], probabilities[[0, 0, 3, 3]], sample_weight=[0.5, 0.5, 0.9, 0.1])
    assert found["nll"] == pytest.approx(expected)
    assert found["nll_votes"] == pytest.approx(scipy.stats.entropy(votes[[0, 3]], axis=1).mean())
    assert found["nll_marginal"] == pytest.approx(scipy.stats.entropy([0.7, 0.3]))
    assert found["utterances"] == 2
    (stratum,) = found["agreement"]
    assert (stratum["n"], stratum["accuracy"]) == (1, 1.0)
    assert summarise_votes(probabilities, np.full((4, 2), np.nan), np.zeros(4, int)) == {}


def test_strata_of_votes_have_their_own_recall():
    rng = np.random.default_rng(0)
    votes = np.concatenate([np.eye(3)[rng.integers(3, size=20)], rng.dirichlet(np.ones(3), 40)])
    labels, probabilities = votes.argmax(axis=1), rng.dirichlet(np.ones(3), 60)
    made = dataclasses.replace(
        predictions(), emotion_labels=labels, emotion_probabilities=probabilities, emotion_votes=votes
    )
    parts = summarise(made, None, 10)["votes"]["agreement"]
    assert [part["n"] for part in parts] == [20, 20, 20]
    expected = sklearn.metrics.recall_score(labels[:20], probabilities[:20].argmax(axis=1), average="macro")
    assert parts[0]["uar"] == pytest.approx(expected)
    assert parts[0]["entropy_to"] == 0
