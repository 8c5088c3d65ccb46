"""`--mode=test` and `python -m emojax tests`: files, tables, the page, data that lack something, wrong input."""

import csv
import dataclasses
import io
import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import emojax.__main__
from emojax.errors import CheckpointError, ConfigError, CorpusError, EmojaxError
from emojax.model_tests import CATALOGUE, ModelTestsConfig, Outputs, conditions, run_model_tests, run_workdir_tests
from emojax.model_tests import sentiment as sentiment_module
from emojax.model_tests.config import CorrectnessConfig, FairnessConfig, RobustnessConfig, parse_model_tests
from emojax.model_tests.measurement import Condition
from emojax.model_tests.model import import_model
from emojax.model_tests.report import read_tests, write_tests_page
from emojax.schema import default_tree
from tests.model_doubles import (
    Double,
    RandomDouble,
    failed_tests,
    in_memory,
    measured_tests,
    noise_clips,
    toy_info,
)
from tests.test_report import elements_of

CONFIG = ModelTestsConfig(
    robustness=RobustnessConfig(utterances=4, rooms=1), fairness=FairnessConfig(simulations=50, min_group=4)
)
BAND = "tests.model_doubles:BAND"


@pytest.fixture(scope="module", autouse=True)
def few_conditions():
    """Few small changes, one noise, and no sentences: the conditions have their own tests."""
    small = list(conditions.small_changes())
    room = conditions.room_bank("", "evaluation", 1, 0.5, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "small_changes", lambda: small[15:17])
        patch.setattr(conditions, "compression", list)
        patch.setattr(conditions, "noise_bank", lambda *arguments: room)
        patch.setattr(conditions, "room_bank", lambda *arguments: room)
        patch.setattr(sentiment_module, "missing_voice", lambda: "no voice in this test")
        yield


@pytest.fixture(scope="module")
def tested(mini_data_dir, tmp_path_factory):
    """A folder with results of an importable model on two splits."""
    workdir = tmp_path_factory.mktemp("runs") / "band"
    run_workdir_tests(workdir, CONFIG, "mini_corpus", ("dev", "test"), str(mini_data_dir), predictor=BAND)
    return workdir


def test_results_are_written_as_json_csv_and_page(tested):
    directory = tested / "tests" / "mini_corpus-1.0.0"
    tree = json.loads((directory / "test.json").read_text())
    assert (tree["model"], tree["corpus"], tree["split"]) == ("band 300 to 2000 Hz", "mini_corpus/1.0.0", "test")
    assert (tree["n"], tree["degraded"], tree["speech"]) == (9, 4, "synthesised")
    assert tree["settings"]["robustness"]["utterances"] == 4
    assert {row["test"] for row in tree["results"]} == {test.name for test in CATALOGUE}
    share = tree["shares"]["robustness"]
    assert share["passed"] + share["failed"] == sum(
        r["group"] == "robustness" and r["status"] != "skipped" for r in tree["results"]
    )
    rows = list(csv.DictReader((directory / "test.csv").open()))
    assert len(rows) == len(tree["results"])
    assert [row["status"] for row in rows] == [row["status"] for row in tree["results"]]
    assert (tested / "tests.html").exists()


def test_models_are_shown_side_by_side(tested, tmp_path, capsys):
    other = tmp_path / "<other>"
    (other / "tests" / "mini_corpus-1.0.0").mkdir(parents=True)
    text = (tested / "tests" / "mini_corpus-1.0.0" / "test.json").read_text()
    tree = {key: value for key, value in json.loads(text).items() if key != "sha256"}
    for row in tree["results"]:
        row["status"] = "failed" if row["status"] == "passed" else row["status"]
    (other / "tests" / "mini_corpus-1.0.0" / "test.json").write_text(json.dumps(tree))
    page = tmp_path / "page.html"
    assert emojax.__main__.main(["tests", str(tested), str(other), f"--output={page}"]) == 0
    out = capsys.readouterr().out
    header = next(line for line in out.splitlines() if line.startswith(" test") and "<other>" in line)
    assert "band" in header
    rows = [line.split()[2::2] for line in out.splitlines() if line.startswith(" spectral tilt")]
    assert sorted(len(row) for row in rows) == [1, 2]  # of the split that both models were tested on, and the other
    assert max(rows, key=len)[1] == "failed"
    tags, attributes, shown = elements_of(page.read_text())
    assert {"table", "figure", "img"} <= tags
    assert "script" not in tags
    assert not {name for name in attributes if name.startswith("on")}
    assert "<other>" in shown
    assert "mini_corpus/1.0.0, split test" in shown
    assert "the corpus has no sex of its speakers" in shown


@pytest.mark.parametrize("style", ["json", "csv"])
def test_rows_are_printed_for_machines(tested, capsys, style):
    assert emojax.__main__.main(["tests", str(tested), f"--{style}"]) == 0
    out = capsys.readouterr().out
    rows = json.loads(out) if style == "json" else list(csv.DictReader(io.StringIO(out)))
    assert {row["split"] for row in rows} == {"dev", "test"}
    assert {"model", "corpus", "test", "output", "metric", "condition", "status", "value", "threshold"} <= set(rows[0])


def test_folders_without_results_are_named(tested, tmp_path):
    (tmp_path / "damaged" / "tests").mkdir(parents=True)
    (tmp_path / "damaged" / "tests" / "test.json").write_text('{"model": "m", "results": [{"status": "great"}]}')
    found, problems = read_tests([tested, tmp_path / "none", tmp_path / "damaged"])
    assert len(found) == 2
    assert any("not tested" in problem for problem in problems)
    assert any("damaged" in problem and "is missing" in problem for problem in problems)
    with pytest.raises(EmojaxError, match="not tested"):
        write_tests_page([tmp_path / "none"], None, "table", io.StringIO(), io.StringIO())


def test_a_threshold_of_the_config_decides(tested):
    strict = dataclasses.replace(CONFIG, correctness=CorrectnessConfig(mae=0.0, ccc=-1.0, pearson=-1.0))
    clips = noise_clips(10)
    labels = np.random.default_rng(0).random((10, 3))
    utterances = in_memory(toy_info(), clips, attributes=labels)
    model = Double(utterances, attributes=np.clip(labels + 0.01, 0, 1))
    results = [r for r in run_model_tests(model, utterances, strict).results if r.test == "regression"]
    assert {(r.metric, r.status) for r in results} == {
        ("CCC", "passed"),
        ("Pearson correlation", "passed"),
        ("MAE", "failed"),
    }


def test_the_config_file_has_the_defaults():
    from configs import model_tests

    assert parse_model_tests(model_tests.get_config().to_dict()) == ModelTestsConfig()
    assert model_tests.get_config().to_dict() == default_tree(ModelTestsConfig)
    with pytest.raises(ConfigError, match=r"config\.fairness\.level must be > 0 and < 1"):
        parse_model_tests(default_tree(ModelTestsConfig) | {"fairness": default_tree(FairnessConfig) | {"level": 1.0}})


def test_a_corpus_without_speakers_sex_and_labels_leaves_robustness_alone():
    utterances = in_memory(toy_info(("joy", "anger")), noise_clips(6))
    model = Double(utterances, attributes=np.full((6, 3), 0.4), emotion=np.zeros(6, int))
    results = run_model_tests(model, utterances, CONFIG).results
    assert measured_tests(results) <= {test.name for test in CATALOGUE if test.group == "robustness"}
    notes = {(r.test, r.output): r.note for r in results if r.status == "skipped"}
    assert "the split has no attribute labels" in notes["regression", ""]
    assert "the split has no labels of these categories" in notes["classification", ""]
    assert notes["speaker average", ""] == "the corpus has no speakers"
    assert notes["background noise", "attributes"] == "the split has no attribute labels"
    assert not failed_tests(results)


def test_one_utterance_is_tested_for_robustness_alone():
    utterances = in_memory(
        toy_info(("joy", "anger")), noise_clips(1), np.full((1, 3), 0.4), [0], speakers=["s"], sexes=["female"]
    )
    model = Double(utterances, attributes=np.full((1, 3), 0.4), emotion=np.zeros(1, int))
    results = run_model_tests(model, utterances, CONFIG).results
    skipped = {r.test for r in results if r.status == "skipped"}
    assert {"sex", "pitch", "speaker average", "speaker ranking"} <= skipped
    ccc = [r for r in results if r.metric == "change of CCC"]
    assert ccc
    assert all(r.status == "skipped" and "too few labels" in r.note for r in ccc)
    regression = {r.metric: r for r in results if r.test == "regression" and r.output == "valence"}
    assert regression["CCC and Pearson correlation"].note == "all labels are equal"
    assert regression["MAE"].status == "passed"


def test_a_model_whose_categories_differ_is_matched_by_a_map_or_skipped():
    utterances = in_memory(toy_info(("joy", "anger")), noise_clips(8), emotion=[0, 1] * 4)

    class Renamed(RandomDouble):
        def __call__(self, clips):
            rows = [utterances.ids.index(clip.id) for clip in clips]
            return Outputs(np.full((len(clips), 3), np.nan), np.eye(2)[utterances.emotion[rows]])

    model = Renamed(categories=("cheerful", "furious"), predicted=(False,) * 3)
    results = run_model_tests(model, utterances, CONFIG).results
    (classification,) = (r for r in results if r.test == "classification")
    assert classification.note == "model and corpus share 0 categories, at least 2 are needed"
    matched = run_model_tests(model, utterances, CONFIG, [("joy", "cheerful"), ("anger", "furious")]).results
    assert {r.value for r in matched if r.metric == "UAR"} == {1.0}


@pytest.mark.parametrize(
    ("attributes", "categories", "message"),
    [
        (np.full((6, 3), np.nan), (), "an output for 'clip0' is not finite"),
        (np.full((6, 2), 0.5), (), r"attributes must have shape \(6, 3\), got \(6, 2\)"),
        (np.full((6, 3), 0.5), ("a", "b"), r"probabilities must have shape \(6, 2\), got \(6, 0\)"),
    ],
)
def test_wrong_outputs_are_one_error(attributes, categories, message):
    class Wrong(RandomDouble):
        def __call__(self, clips):
            return Outputs(attributes, np.zeros((6, 0)))

    with pytest.raises(EmojaxError, match=message):
        run_model_tests(Wrong(categories=categories), in_memory(toy_info(), noise_clips(6)), CONFIG)


def test_the_example_of_the_document_is_a_model(monkeypatch):
    document = (Path(__file__).parents[1] / "docs" / "model_tests.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    module = types.ModuleType("documented")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "documented", module)
    model = import_model("documented:MyModel")
    utterances = in_memory(toy_info(("anger", "neutral")), noise_clips(3), emotion=[0, 1, 0])
    assert "classification" in measured_tests(run_model_tests(model, utterances, CONFIG).results)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.model_doubles", "--predictor must be MODULE:NAME"),
        ("no_such_module:x", "ModuleNotFoundError"),
        ("tests.model_doubles:nothing", "AttributeError"),
        ("tests.model_doubles:outcomes", "TypeError"),
        ("collections:Counter", "must be a model"),
    ],
)
def test_a_wrong_predictor_is_one_error(name, message):
    with pytest.raises(ConfigError, match=message):
        import_model(name)


def test_a_constant_predictor_passes_what_never_changes(tmp_path, mini_data_dir):
    arguments = (tmp_path / "constant", CONFIG, "mini_corpus", ("test",), str(mini_data_dir))
    (tested,) = run_workdir_tests(*arguments, predictor="constant")
    assert tested.model == "constant"
    found = {(row.test, row.output, row.metric): row.status for row in tested.results}
    assert found["regression", "valence", "CCC"] == found["classification", "emotion", "UAR"] == "failed"
    unchanged = {row.status for row in tested.results if row.test == "small changes"}
    assert unchanged == {"passed"}


def test_other_mistakes_are_one_error(tmp_path, mini_data_dir):
    with pytest.raises(CheckpointError, match="no such workdir"):
        run_workdir_tests(tmp_path / "none", CONFIG)
    with pytest.raises(ConfigError, match="--corpus=NAME must be given"):
        run_workdir_tests(tmp_path / "none", CONFIG, predictor=BAND)
    with pytest.raises(CorpusError, match="no split 'x'"):
        run_workdir_tests(tmp_path / "a", CONFIG, "mini_corpus", ("x",), str(mini_data_dir), predictor=BAND)


def test_recordings_of_the_same_speech_are_compared():
    clips = noise_clips(8)
    utterances = in_memory(toy_info(), clips, speech=["1", "1", "2", "2", "3", "3", "", ""])
    attributes = np.full((8, 3), 0.5)
    attributes[1] = 0.9
    results = run_model_tests(Double(utterances, attributes=attributes), utterances, CONFIG).results
    (valence,) = (r for r in results if r.test == "recording condition" and r.output == "valence")
    assert (valence.n, valence.status) == (3, "failed")
    assert valence.value == pytest.approx(2 / 3)


def test_accents_are_compared_without_labels():
    n = 60
    utterances = in_memory(toy_info(("joy", "anger")), noise_clips(n, 1600), accent=["north", "south"] * (n // 2))
    shifted = np.full((n, 3), 0.4)
    shifted[::2, 1] = 0.8
    model = Double(utterances, attributes=shifted, emotion=np.arange(n) % 2)
    results = [r for r in run_model_tests(model, utterances, CONFIG).results if r.test == "accent"]
    by_output = {(r.output, r.condition): r for r in results}
    assert by_output["activation", "north"].status == "passed"
    assert by_output["valence", "south"].status == "failed"
    assert by_output["valence", "south"].value == pytest.approx(0.2)
    assert by_output["emotion", "joy: north"].status == "failed"


def test_every_condition_is_computed_once():
    calls = []

    def degrade(waveforms, ids, seed):
        calls.append(tuple(ids))
        return list(waveforms)

    from emojax.model_tests import Measurement

    utterances = in_memory(toy_info(), noise_clips(6))
    measurement = Measurement(Double(utterances, attributes=np.full((6, 3), 0.5)), utterances, CONFIG)
    for _ in range(2):
        measurement.degraded(Condition("same", degrade))
    assert len(calls) == 1
    assert len(calls[0]) == 4
