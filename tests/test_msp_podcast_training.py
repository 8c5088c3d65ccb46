"""A licence holder's two commands on a miniature release: build, then train, steer, test and submit."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.mini_msp_podcast import write_release

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def workdir(commands, tmp_path_factory):
    folder = tmp_path_factory.mktemp("msp")
    write_release(folder / "MSP-PODCAST", "v1_11", per_split=64, quirks=False)
    build = ["tfds_builders", "msp_podcast", "--config=v1_11", f"--manual_dir={folder / 'MSP-PODCAST'}"]
    environment = os.environ | {"TFDS_DATA_DIR": str(folder / "tfds")}
    pipes = {"capture_output": True, "text": True, "timeout": 300, "check": False}
    done = subprocess.run([sys.executable, "-m", *build], cwd=ROOT, env=environment, **pipes)
    assert done.returncode == 0, done.stderr
    done = commands.run(
        "--config=configs/multitask_mfb.py",
        f"--workdir={folder / 'run'}",
        "--config.corpus.name=msp_podcast/v1_11",
        "--config.corpus.categories=('anger','sadness','happiness','neutral')",
        "--config.corpus.test_splits=('test1','test2','test3')",
        "--config.data.batch_size=16",
        "--config.data.bucket_seconds=()",
        "--config.data.num_buckets=2",
        "--config.data.workers=0",
        "--config.model.log_mel.network.gru_size=16",
        "--config.model.log_mel.network.conv_channels=8",
        "--config.model.log_mel.network.pooling=mean",
        "--config.optimizer.learning_rate=0.01",
        "--config.training.epochs=15",
        "--config.training.evaluate_every_epochs=5",
        "--config.training.log_every_steps=1",
        "--config.evaluation.bootstrap_resamples=20",
        "--config.evaluation.window_seconds=0.5",
        data_dir=folder / "tfds",
    )
    assert done.returncode == 0, done.stderr
    assert "% of them padding" in done.stdout
    return folder / "run"


def test_the_curves_fall_and_what_can_be_heard_is_learned(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    for split in ("test1", "test2"):
        ccc = json.loads((workdir / "evaluation" / f"{split}.json").read_text())["ccc"]
        assert ccc["activation"]["value"] > 0.6
        assert ccc["dominance"]["value"] > 0.6
        assert ccc["valence"]["value"] < 0.5  # nothing in the sound tells it


def test_only_the_chosen_categories_are_predicted(workdir):
    summary = json.loads((workdir / "evaluation" / "test1.json").read_text())
    assert summary["categories"] == ["anger", "sadness", "happiness", "neutral"]
    assert summary["labelled"]["emotion"] < summary["n"]
    config = json.loads((workdir / "config.json").read_text())
    assert len(config["data"]["bucket_seconds"]) == 2


def test_the_split_without_labels_gets_the_challenges_file(workdir):
    with (workdir / "evaluation" / "test3_submission.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["FileName"] for row in rows] == sorted(row["FileName"] for row in rows) or len(rows) == 3
    assert all(1 < float(row[name]) < 7 for row in rows for name in ("EmoAct", "EmoVal", "EmoDom"))
