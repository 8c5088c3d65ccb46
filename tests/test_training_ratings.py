"""Training with distributions of ratings: evaluation, prediction, eight devices, EMA, distillation, 8 bits, folds."""

import csv
import io
import json

import jax
import numpy as np
import pytest

import emojax
from configs import default
from emojax.__main__ import main
from emojax.config import parse_experiment
from emojax.cross_validation import cross_validate
from emojax.data import open_corpus, read_index
from emojax.data.ratings import table_columns
from emojax.errors import ConfigError
from emojax.evaluation import Predictions
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from emojax.workdir.restore import quantise_workdir
from tests.rated_corpus import BINS, SIZES, ratings_of

EPOCHS = 4
RATED = {"rating_weight": 0.3, "confidence": "standard_error"}
VALUES = [float(value) for value in range(1, 8)]


def tree(data_dir, corpus="rated_corpus", bins=BINS, **objective):
    config = default.get_config()
    config.corpus.update({"name": corpus, "data_dir": str(data_dir)})
    config.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0})
    config.model.log_mel.network.update({"gru_size": 8, "conv_channels": 0, "embedding_size": 6})
    config.model.rating_bins = bins
    config.objective.update(RATED | objective)
    config.optimizer.update({"warmup_steps": 1, "learning_rate": 3e-3, "ema_decay": 0.9})
    config.training.update({"epochs": EPOCHS, "log_every_steps": 1})
    config.evaluation.bootstrap_resamples = 10
    return config


def train(config, workdir):
    train_workdir(parse_experiment(config.to_dict()), workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


@pytest.fixture(scope="module")
def trained(rated_data_dir, tmp_path_factory):
    """A model trained on eight devices, and its logged steps."""
    workdir = tmp_path_factory.mktemp("runs") / "rated"
    return workdir, train(tree(rated_data_dir), workdir)


@pytest.fixture(scope="module")
def scores(trained):
    return evaluate_workdir(trained[0])["test"]


def test_the_distribution_loss_is_logged_and_falls(trained):
    _, lines = trained
    names = [f"train/loss/ratings_{attribute}" for attribute in ("activation", "valence", "dominance")]
    first, last = (sum(line[name] for line in part for name in names) for part in (lines[:3], lines[-3:]))
    assert last < first  # over the same utterances: an epoch has three steps
    # Two of 24 training utterances have no ratings; valence is counted like the others.
    assert sum(line["train/labels/ratings_valence"] for line in lines) == EPOCHS * 22


def test_one_device_and_micro_batches_give_the_losses_of_eight(trained, rated_data_dir, tmp_path, one_device):
    config = tree(rated_data_dir)
    config.training.micro_batches = 2
    lines = train(config, tmp_path / "one")
    for line, other in zip(trained[1][:3], lines, strict=False):
        for name in ("loss", "loss/ratings_valence", "loss/ccc_valence"):
            assert line[f"train/{name}"] == pytest.approx(other[f"train/{name}"], rel=2e-4)


def test_evaluation_scores_the_distributions(trained, scores):
    workdir, _ = trained
    ratings = scores["ratings"]
    assert ratings["values"] == VALUES
    for attribute, found in ratings["attributes"].items():
        assert found["utterances"] == SIZES["test"] - 2
        assert found["ratings"] == sum(len(ratings_of("test", number)) for number in range(SIZES["test"]))
        assert found["nll_histogram"] < found["nll"] < np.log(BINS) + 0.5
        assert 0 < found["crps"] < 3
        assert 0 <= found["coverage"]["0.5"] <= found["coverage"]["0.9"] <= 1
        assert sum(part["n"] for part in scores["agreement"][attribute]) <= SIZES["test"] - 2
    assert (workdir / "evaluation" / "test_ratings.png").exists()
    assert json.loads((workdir / "evaluation" / "test.json").read_text())["ratings"] == ratings
    card = (workdir / "README.md").read_text()
    assert "distribution over 7 values" in card
    assert "weighted by the confidence in them (`standard_error`)" in card
    assert f"| {ratings['attributes']['activation']['nll']:.3f} |" in card


def test_the_file_of_predictions_holds_distributions_that_are_read_back(trained, scores, rated_data_dir):
    workdir, _ = trained
    corpus = open_corpus("rated_corpus", rated_data_dir)
    path = workdir / "evaluation" / "test.csv"
    read = Predictions.read_csv(path, corpus.info, "test")
    assert read.ratings.probabilities.shape == (SIZES["test"], 3, BINS)
    np.testing.assert_allclose(read.ratings.probabilities @ np.array(VALUES), read.attributes, atol=1e-5)
    index = read_index(corpus, "test")
    assert read.ids == index.ids.tolist()
    for row, id in enumerate(read.ids):
        ratings = ratings_of("test", int(id.rpartition("_")[2]))
        np.testing.assert_array_equal(read.ratings.counts[row].sum(axis=1), len(ratings))
    with path.open() as file:
        first = next(csv.DictReader(file))
    assert float(first["predicted_std_valence"]) == pytest.approx(read.ratings.spreads[0, 1])
    assert first["predicted_q50_valence"] in map(repr, VALUES)


def test_predictions_carry_spread_and_quantiles_in_every_format(trained):
    workdir, _ = trained
    model = emojax.load(workdir)
    clip = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    prediction = model.predict(clip, rate=16_000)
    for name, distribution in prediction.ratings.items():
        assert distribution.values == tuple(VALUES)
        assert sum(distribution.probabilities) == pytest.approx(1)
        mean = np.dot(distribution.values, distribution.probabilities)
        assert prediction.attributes[name] == pytest.approx(mean, abs=1e-5)
        assert distribution.quantile(0.05) <= distribution.quantile(0.5) <= distribution.quantile(0.95)
        assert 0 < distribution.std < 3


@pytest.fixture
def clip(tmp_path):
    import soundfile

    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    return path


def test_the_command_writes_distributions(trained, clip, capsys):
    assert main(["predict", str(trained[0]), str(clip)]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert sum(float(row[f"share_valence_{value}"]) for value in range(1, 8)) == pytest.approx(1)
    assert main(["predict", str(trained[0]), str(clip), "--format=jsonl"]) == 0
    tree = json.loads(capsys.readouterr().out)["ratings"]["valence"]
    assert tree["std"] == pytest.approx(float(row["std_valence"]))
    assert tree["quantiles"]["0.95"] == float(row["q95_valence"])


def test_the_8_bit_model_predicts_close_distributions(trained, tmp_path):
    workdir, _ = trained
    quantise_workdir(workdir, tmp_path / "small")
    clip = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    whole, small = (emojax.load(folder).predict(clip, rate=16_000) for folder in (workdir, tmp_path / "small"))
    for name in whole.ratings:
        np.testing.assert_allclose(small.ratings[name].probabilities, whole.ratings[name].probabilities, atol=0.02)


@pytest.mark.parametrize("bins", [BINS, 0])
def test_a_student_is_distilled_from_a_model_with_distributions(trained, rated_data_dir, tmp_path, one_device, bins):
    config = tree(rated_data_dir, bins=bins, **({} if bins else {"rating_weight": 0.0}))
    config.teacher.workdir = str(trained[0])
    config.distillation.update({"attribute_weight": 1.0, "embedding_weight": 0.5, "condition": "soft"})
    config.training.epochs = 1
    lines = train(config, tmp_path / "student")
    assert all(np.isfinite(line["train/teacher/valence"]) for line in lines)
    assert ("train/loss/ratings_valence" in lines[0]) == bool(bins)


def test_folds_pool_the_distributions(rated_data_dir, tmp_path, one_device):
    config = tree(rated_data_dir)
    config.training.epochs = 1
    cross_validate(parse_experiment(config.to_dict()), tmp_path / "folds", 2)
    pooled = json.loads((tmp_path / "folds" / "evaluation" / "2-folds-of-speakers.json").read_text())
    rated = sum(SIZES.values()) - 2 * len(SIZES)
    assert pooled["ratings"]["attributes"]["valence"]["utterances"] == rated
    assert pooled["agreement"]["valence"]


def test_a_normal_is_assumed_from_deviations_by_explicit_choice(mini_rated_std, tmp_path, one_device):
    config = tree(mini_rated_std, "built_corpus", rating_target="normal", confidence="inverse_variance")
    lines = train(config, tmp_path / "run")
    assert lines[-1]["train/loss/ratings_activation"] > 0
    found = evaluate_workdir(tmp_path / "run")["test"]
    assert found["ratings"]["undefined"] == "the corpus has no histograms of ratings"
    assert "nll" not in found["ratings"]["attributes"]["activation"]
    assert found["ratings"]["attributes"]["activation"]["spread_utterances"] == 4


@pytest.fixture
def mini_rated_std(tmp_path):
    """A data_dir with a corpus that has deviations of raters and no histograms."""
    from tests import built_corpus

    stds = np.random.default_rng(0).uniform(0.2, 2.0, (12, 3))
    changes = {
        (split, number): {"attributes_std": stds[number].tolist()}
        for split, size in built_corpus.SIZES.items()
        for number in range(size)
    }
    built_corpus.build(tmp_path / "std", changes)
    return tmp_path / "std"


@pytest.mark.parametrize(
    ("corpus", "bins", "objective", "message"),
    [
        ("mini_corpus", 7, {"confidence": "none"}, "rating_weight must be 0, got 0.3: no utterance of split 'train'"),
        ("mini_corpus", 7, {"confidence": "none", "rating_target": "normal"}, "or a standard deviation over raters"),
        (
            "mini_corpus",
            0,
            {"rating_weight": 0.0, "confidence": "num_ratings"},
            "confidence must be 'none', got 'num_rat",
        ),
        ("mini_corpus", 0, {"rating_weight": 0.0, "confidence": "inverse_variance"}, "has a standard deviation over"),
        ("rated_corpus", 5, {}, "model.rating_bins must be 7, the values of the rating scale of rated_corpus"),
    ],
)
def test_a_corpus_that_lacks_what_is_asked_for_is_an_error_before_training(
    mini_data_dir, rated_data_dir, tmp_path, corpus, bins, objective, message
):
    data_dir = rated_data_dir if corpus == "rated_corpus" else mini_data_dir
    with pytest.raises(ConfigError, match=message):
        train(tree(data_dir, corpus, bins, **objective), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.rating_bins": 0}, "model.rating_bins must be >= 2 with objective.rating_weight"),
        (
            {"training.linear_heads": True, "model.log_mel.network.embedding_size": 0},
            "with training.linear_heads, got 7",
        ),
    ],
)
def test_rules_between_fields(rated_data_dir, changes, message):
    config = tree(rated_data_dir)
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        parse_experiment(config.to_dict())


def test_a_distribution_without_its_loss_trains_by_the_ccc_of_its_mean(rated_data_dir, tmp_path, one_device):
    lines = train(tree(rated_data_dir, rating_weight=0.0, confidence="none"), tmp_path / "run")
    assert not [name for name in lines[0] if "ratings" in name]
    assert jax.device_count() == 8


def test_histograms_come_from_a_table_which_evaluation_can_do_without(tmp_path, one_device, capsys):
    from tests import built_corpus

    built_corpus.build(tmp_path / "data")
    table = tmp_path / "ratings.csv"
    rng = np.random.default_rng(0)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *table_columns((1.0, 7.0))])
        for split, size in built_corpus.SIZES.items():
            writer.writerows([f"{split}_{number:03d}", *rng.integers(0, 3, 21)] for number in range(size))
    config = tree(tmp_path / "data", "built_corpus", confidence="num_ratings")
    config.corpus.ratings = str(table)
    lines = train(config, tmp_path / "run")
    assert sum(line["train/labels/ratings_valence"] for line in lines) == EPOCHS * 12
    assert evaluate_workdir(tmp_path / "run")["test"]["ratings"]["attributes"]["valence"]["utterances"] == 4
    table.unlink()
    found = evaluate_workdir(tmp_path / "run")["test"]["ratings"]
    assert found["undefined"] == "the corpus has no histograms of ratings"
    assert f"config.corpus.ratings: {table} does not exist" in capsys.readouterr().out
