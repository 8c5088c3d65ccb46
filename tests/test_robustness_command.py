"""`--mode=robustness`: corpus and models by name, files, page, the modes' flags, mistakes."""

import csv
import json

import numpy as np
import pytest

from emojax.errors import CheckpointError, ConfigError, CorpusError
from emojax.model_tests import Outputs
from emojax.robustness import RobustnessGridConfig, run_robustness
from emojax.robustness.config import ChannelGridConfig, NoiseGridConfig, RoomGridConfig
from emojax.robustness.models import open_models
from emojax.robustness.run import grid_mesh
from tests.model_doubles import BandDouble, toy_info
from tests.test_report import elements_of

BAND = "tests.model_doubles:BAND"
CONFIG = RobustnessGridConfig(
    utterances=6,
    noise=NoiseGridConfig(("white", "babble"), (0.0,)),
    rooms=RoomGridConfig(count=1, seconds=0.2, noise_snrs_db=()),
    channels=ChannelGridConfig(True, ()),
    bootstrap_resamples=100,
)


@pytest.mark.usefixtures("one_device")
def test_models_are_compared_in_files_and_on_a_page(mini_data_dir, tmp_path, capsys):
    workdir = tmp_path / "grid"
    outcome = run_robustness(workdir, CONFIG, (BAND, "constant"), "mini_corpus", ("test",), str(mini_data_dir))
    (results,) = outcome.grids
    assert outcome.interrupted_by is None
    out = capsys.readouterr().out
    assert "mini_corpus/1.0.0 test, n 6" in out
    assert str(workdir / "robustness.html") in out
    directory = workdir / "robustness" / "mini_corpus-1.0.0"
    tree = json.loads((directory / "test.json").read_text())
    assert (tree["corpus"], tree["n"], tree["models"]) == ("mini_corpus/1.0.0", 6, ["band 300 to 2000 Hz", "constant"])
    names = ["clean", "mean of noises 0 dB", "white 0 dB", "babble 0 dB", *(c.name for c in results.conditions[4:])]
    assert [condition["name"] for condition in tree["conditions"]] == names
    assert tree["settings"]["utterances"] == 6
    rows = list(csv.DictReader((directory / "test.csv").open()))
    assert len(rows) == len(tree["scores"])
    assert len(rows) == len(names) * (1 + 4)  # activation alone; three attributes and categories
    constant = [row for row in rows if row["model"] == "constant" and row["metric"] == "CCC"]
    assert {float(row["value"]) for row in constant} == {0.0}
    assert {row["snr_db"] for row in rows} == {"", "0.0"}
    assert {path.name for path in directory.glob("*.png")} == {
        "test_scores.png",
        "test_relative_loss.png",
        "test_rooms_and_channels.png",
    }
    tags, attributes, shown = elements_of((workdir / "robustness.html").read_text())
    assert {"table", "figure", "img", "pre"} <= tags
    assert "script" not in tags
    assert not {name for name in attributes if name.startswith("on")}
    assert "constant − band 300 to 2000 Hz" in shown
    assert "white 0 dB: 1 clip beyond full scale, scaled to a peak of 1" in shown


class Renamed:
    """A model of categories that the corpus names otherwise."""

    name, predicted, categories, min_samples = "renamed", (False,) * 3, ("furious", "cheerful"), 400

    def __call__(self, clips):
        return Outputs(np.full((len(clips), 3), np.nan), np.eye(2)[[len(clip.id) % 2 for clip in clips]])


@pytest.mark.usefixtures("one_device")
def test_categories_are_matched_by_a_map_and_the_first_model_need_not_have_the_outputs(mini_data_dir, tmp_path):
    config = RobustnessGridConfig(
        utterances=9,
        noise=NoiseGridConfig(()),
        rooms=RoomGridConfig(count=0),
        channels=ChannelGridConfig(True, ()),
        bootstrap_resamples=100,
    )
    names = (BAND, "tests.test_robustness_command:Renamed")
    arguments = ("mini_corpus", ("test",), str(mini_data_dir), ("anger:furious", "happiness:cheerful"))
    (results,) = run_robustness(tmp_path, config, names, *arguments).grids
    score = results.score("renamed", "clean", "emotion")
    assert 0 <= score.score.value <= 1
    assert (score.gain.value, score.change.value) == (None, 0.0)
    assert results.score("band 300 to 2000 Hz", "clean", "emotion") is None


def test_models_of_a_command_must_exist_and_differ(tmp_path):
    info, mesh = toy_info(), grid_mesh()
    assert mesh.size == 8
    with pytest.raises(CheckpointError, match=r"none: no such workdir"):
        open_models([str(tmp_path / "none")], info, mesh)
    with pytest.raises(CheckpointError):
        open_models([str(tmp_path)], info, mesh)
    with pytest.raises(ConfigError, match=r"--models must be different"):
        open_models(["constant", "constant"], info, mesh)
    with pytest.raises(ConfigError, match=r"--models=tests.model_doubles:nothing: AttributeError"):
        open_models(["tests.model_doubles:nothing"], info, mesh)
    opened = open_models(["constant", BAND], info, mesh)
    assert [model.name for model in opened] == ["constant", BandDouble(300, 2000, name="band 300 to 2000 Hz").name]
    assert not any(model.takes_transcripts for model in opened)


def test_other_mistakes_are_one_error(tmp_path, mini_data_dir):
    with pytest.raises(ConfigError, match="--models must name models"):
        run_robustness(tmp_path / "none", CONFIG)
    with pytest.raises(ConfigError, match="--corpus=NAME must be given"):
        run_robustness(tmp_path / "none", CONFIG, ("constant",))
    with pytest.raises(CorpusError, match="no split 'x'"):
        run_robustness(tmp_path / "a", CONFIG, ("constant",), "mini_corpus", ("x",), str(mini_data_dir))
