"""Filling the tables of a document from workdirs."""

import json

import pytest

from emojax.__main__ import main
from tests.evaluation_examples import write_workdir

DOCUMENT = """# Results

<!-- scores: toy/default test -->

| system | paper | CCC valence | UAR | seeds | command |
|---|---|---|---|---|---|
| `student` | .30 | | – | – | `run` |
| `teacher` | .60 | old | | | `run` |

| `student` | CCC valence |
|---|---|
| `student` | not marked |
"""


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "results.md"
    path.write_text(DOCUMENT)
    return path


def cells(document, number):
    return [cell.strip() for cell in document.read_text().splitlines()[number].strip("|").split("|")]


def test_seeds_become_one_row_and_the_rest_stays(document, tmp_path, capsys):
    folders = [write_workdir(tmp_path / f"student_seed{seed}", seed=seed) for seed in (0, 1)]
    assert main(["fill-tables", str(document), *map(str, folders)]) == 0
    name, paper, valence, uar, seeds, command = cells(document, 6)
    assert (name, paper, seeds, command) == ("`student`", ".30", "2", "`run`")
    assert all(part in valence for part in "±[]")
    assert "±" in uar
    assert cells(document, 7) == ["`teacher`", ".60", "old", "", "", "`run`"]
    assert "not marked" in document.read_text()
    assert "test student" in capsys.readouterr().out


def test_one_seed_has_its_interval_and_filling_again_changes_nothing(document, tmp_path):
    folder = write_workdir(tmp_path / "teacher_seed3", seed=3)
    assert main(["fill-tables", str(document), str(folder)]) == 0
    assert cells(document, 7)[2].startswith("0.")
    assert "±" not in cells(document, 7)[2]
    before = document.read_text()
    assert main(["fill-tables", str(document), str(folder)]) == 0
    assert document.read_text() == before


def test_the_path_of_a_store_does_not_make_another_system(document, tmp_path, capsys):
    folders = [write_workdir(tmp_path / f"student_seed{seed}", seed=seed) for seed in (0, 1)]
    configs = [
        {"seed": 0, "model": {"lexical": {"store": "/old/minilm"}}, "data": {"workers": 1}, "training": {}},
        {"seed": 1, "model": {"lexical": {"store": "/new/minilm"}}, "data": {"workers": 4}, "training": {}},
    ]
    configs[1]["training"]["profile_steps"] = 0  # a later field, which the older run does not have
    for folder, config in zip(folders, configs, strict=True):
        (folder / "config.json").write_text(json.dumps(config))
    assert main(["fill-tables", str(document), *map(str, folders)]) == 0
    assert cells(document, 6)[4] == "2"
    configs[1]["model"]["lexical"]["store"] = "/new/other"
    (folders[1] / "config.json").write_text(json.dumps(configs[1]))
    assert main(["fill-tables", str(document), *map(str, folders)]) == 1
    assert "the name of several" in capsys.readouterr().err


def test_no_matching_row_and_ambiguous_rows_are_errors(document, tmp_path, capsys):
    assert main(["fill-tables", str(document), str(write_workdir(tmp_path / "other", seed=0))]) == 1
    copies = [write_workdir(tmp_path / place / "student_seed0", seed=0) for place in ("a", "b")]
    assert main(["fill-tables", str(document), *map(str, copies)]) == 1
    assert "the name of several" in capsys.readouterr().err
    assert main(["fill-tables", str(tmp_path / "absent.md"), str(copies[0])]) == 1
    assert document.read_text() == DOCUMENT
