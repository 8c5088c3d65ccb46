"""Cross-validation by the command: every utterance predicted by a model without its speaker; it continues."""

import csv
import json

import numpy as np
import pytest

import emojax
from emojax.errors import CheckpointError, ConfigError

SMALL = (
    "--config=configs/own.py",
    "--config.corpus.name=mini_corpus",
    "--config.data.batch_size=16",
    "--config.training.epochs=2",
    "--config.evaluation.bootstrap_resamples=20",
)


@pytest.fixture(scope="module")
def finished(commands, mini_data_dir, checkpoints, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "own"
    encoder = f"--config.model.acoustic.checkpoint={checkpoints['acoustic']}"
    command = (*SMALL, encoder, f"--workdir={workdir}", "--folds=2")
    result = commands.run(*command, data_dir=mini_data_dir)
    assert result.returncode == 0, result.stderr
    return workdir, result, command


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_utterance_is_predicted_once_by_a_model_without_its_speaker(finished):
    workdir, _, _ = finished
    tree = json.loads((workdir / "cross_validation.json").read_text())
    held_out = [set(fold["speakers"]) for fold in tree["folds"]]
    assert len(held_out) == 2
    assert not held_out[0] & held_out[1]
    pooled = rows(workdir / "evaluation" / "2-folds-of-speakers.csv")
    assert len({row["id"] for row in pooled}) == len(pooled) == 37 + 11 + 9
    for number, speakers in enumerate(held_out, start=1):
        folder = workdir / "folds" / str(number)
        assert {row["speaker"] for row in rows(folder / "evaluation" / "speakers.csv")} == speakers
        config = json.loads((folder / "config.json").read_text())
        assert set(config["corpus"]["speakers"]) == speakers
        corpus = json.loads((folder / "corpus.json").read_text())
        assert corpus != json.loads((workdir / "corpus.json").read_text())


def test_pooled_scores_have_intervals_baselines_and_a_card(finished):
    workdir, result, _ = finished
    summary = json.loads((workdir / "evaluation" / "2-folds-of-speakers.json").read_text())
    assert summary["bootstrap"]["over"] == "speaker"
    assert {"mean", "random", "encoder_linear", "log_mel_linear"} <= set(summary["baselines"])
    for scores in (summary, summary["baselines"]["encoder_linear"], summary["baselines"]["log_mel_linear"]):
        assert scores["uar"]["low"] <= scores["uar"]["value"] <= scores["uar"]["high"]
        assert np.isfinite(scores["ccc"]["activation"]["value"])
    assert "baseline: linear model on encoder statistics: CCC activation" in result.stdout
    assert "2 folds of speakers" in (workdir / "README.md").read_text()


def test_the_final_model_predicts_new_audio(finished):
    workdir, _, _ = finished
    clip = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    prediction = emojax.load(workdir).predict(clip, rate=16_000)
    assert np.isfinite(prediction.attributes["activation"])
    assert sum(prediction.emotions.values()) == pytest.approx(1)


def test_the_same_command_continues_fold_by_fold(finished, commands, mini_data_dir):
    workdir, _, command = finished
    before = (workdir / "evaluation" / "2-folds-of-speakers.csv").read_text()
    for name in ("evaluation/2-folds-of-speakers.csv", "cross_validation.json", "folds/2/evaluation/speakers.json"):
        (workdir / name).unlink()
    kept = (workdir / "folds" / "1" / "metrics.jsonl").stat().st_mtime_ns
    again = commands.run(*command, data_dir=mini_data_dir)
    assert again.returncode == 0, again.stderr
    assert "fold 2 of 2" in again.stdout
    assert "fold 1 of 2" not in again.stdout
    assert (workdir / "folds" / "1" / "metrics.jsonl").stat().st_mtime_ns == kept
    assert (workdir / "evaluation" / "2-folds-of-speakers.csv").read_text() == before


def test_other_folds_and_splits_are_errors_of_one_line(finished, mini_data_dir):
    from emojax.config import parse_experiment
    from emojax.cross_validation import cross_validate, parse_num_folds
    from emojax.cross_validation.summary import check_same_folds
    from emojax.launcher.config_files import load_config

    workdir, _, _ = finished
    with pytest.raises(CheckpointError, match="was started with 2 other folds"):
        check_same_folds(workdir, [("a",), ("b",), ("c",)])
    with pytest.raises(ConfigError, match="--folds must be 'speaker' or a number >= 2, got '1'"):
        parse_num_folds("1")
    assert parse_num_folds("speaker") == 0
    tree = load_config("own")
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir), "train_split": "train"})
    with pytest.raises(ConfigError, match="must be empty with --folds"):
        cross_validate(parse_experiment(tree.to_dict()), workdir.parent / "other", 2)
