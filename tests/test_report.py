"""`python -m emojax report`: rows, descriptions, safe pages."""

import csv
import io
import json
import re
import shutil
import statistics
from html.parser import HTMLParser

import numpy as np
import pytest

from emojax.__main__ import main
from emojax.reporting import evaluation_directory
from tests.evaluation_examples import PNG, corpus, write_scores, write_workdir


def report(capsys, *arguments):
    status = main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def json_rows(capsys, *arguments):
    status, out, _ = report(capsys, *arguments, "--json")
    assert status == 0
    return json.loads(out)


def scores_of(workdir):
    return json.loads((workdir / "evaluation" / "test.json").read_text())


def elements_of(page):
    """Tags, names of attributes, and text, as a browser would read the page."""
    tags, attributes, text = set(), set(), []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)
            attributes.update(name for name, _ in attrs)
            assert all(value.startswith("data:image/png;base64,") for name, value in attrs if name == "src")

        def handle_data(self, data):
            text.append(data)

    Reader().feed(page)
    return tags, attributes, "".join(text)


def test_every_split_of_every_workdir_is_a_row_with_its_own_numbers(tmp_path, capsys):
    first, second = write_workdir(tmp_path / "first"), write_workdir(tmp_path / "second", seed=1)
    other = corpus("other/default/2.0.0")
    write_scores(evaluation_directory(first, other.name), info=other, split="test2", seed=5)
    rows = json_rows(capsys, first, second)
    systems = [(r["system"], r["corpus"], r["split"]) for r in rows if r["kind"] == "system"]
    assert systems == [
        ("first", "toy/default/1.0.0", "test"),
        ("second", "toy/default/1.0.0", "test"),
        ("first", "other/default/2.0.0", "test2"),
    ]
    for row, workdir in zip(rows, (first, second), strict=False):
        scores = scores_of(workdir)
        for attribute in ("activation", "valence", "dominance"):
            assert row[f"ccc_{attribute}"] == scores["ccc"][attribute]["value"]
            assert row[f"ccc_{attribute}_low"] == scores["ccc"][attribute]["low"]
        assert (row["uar"], row["macro_f1"]) == (scores["uar"]["value"], scores["macro_f1"]["value"])
        assert (row["parameters"], row["seconds"]) == (1_234_567, 3930.0)


def test_the_table_shows_each_score_under_its_own_title(tmp_path, capsys):
    workdir = write_workdir(tmp_path / "only")
    _, out, _ = report(capsys, workdir)
    lines = out.splitlines()
    header = next(line for line in lines if "CCC activation" in line)
    row = next(line for line in lines if line.strip().startswith("only"))
    titles = ("CCC activation", "CCC valence", "CCC dominance", "UAR", "macro F1")
    ends = [header.index(title) + len(title) for title in titles]
    shown = [row[:end].split()[-1] for end in ends]
    scores = scores_of(workdir)
    values = [scores["ccc"][name]["value"] for name in ("activation", "valence", "dominance")]
    values += [scores["uar"]["value"], scores["macro_f1"]["value"]]
    assert [float(text) for text in shown] == [round(value, 3) for value in values]
    assert "1.23 M" in row
    assert "1 h 06 min" in row


def test_baselines_are_listed_once(tmp_path, capsys):
    workdirs = [write_workdir(tmp_path / name) for name in ("a", "b")]
    rows = json_rows(capsys, *workdirs)
    assert [row["system"] for row in rows] == ["a", "b", "baseline: mean or majority", "baseline: random draws"]
    assert rows[2]["ccc_valence"] == 0
    assert rows[3]["uar"] == pytest.approx(1 / 3, abs=0.05)


def test_baselines_from_other_training_labels_name_their_systems(tmp_path, capsys):
    workdirs = [write_workdir(tmp_path / name) for name in ("a", "b")]
    write_scores(workdirs[1] / "evaluation", train_seed=9)
    titles = [row["system"] for row in json_rows(capsys, *workdirs)]
    assert {"baseline: random draws, for a", "baseline: random draws, for b"} <= set(titles)


def test_each_score_comes_with_its_protocol(tmp_path, capsys):
    _, out, _ = report(capsys, write_workdir(tmp_path / "run", seed=7))
    line = next(line for line in out.splitlines() if line.strip().startswith("run: "))
    for part in ("toy/default/1.0.0", "split test", "recorded speech", "n = 60", "6 speakers", "seed 7"):
        assert part in line
    assert "each score over all utterances of the split at once" in line
    assert "95 % bootstrap over 6 speakers, 50 resamples" in line


def test_synthetic_speech_and_derived_attributes_are_stated(tmp_path, capsys):
    info = corpus(speech="synthesised", attribute_source="derived")
    workdir = write_workdir(tmp_path / "run", info=info)
    _, out, _ = report(capsys, workdir)
    assert "toy/default/1.0.0, split test: synthesised speech, attributes derived, not rated, n = 60" in out
    assert "synthesised speech, attributes derived, not rated" in (workdir / "report.html").read_text()


def test_results_on_different_utterances_are_flagged(tmp_path, capsys):
    _, out, _ = report(capsys, write_workdir(tmp_path / "a"), write_workdir(tmp_path / "b", n=50))
    assert "n = 50 to 60: NOT the same utterances" in out


def test_csv_rows_equal_json_rows(tmp_path, capsys):
    workdir = write_workdir(tmp_path / "run")
    _, out, _ = report(capsys, workdir, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    for row, expected in zip(rows, json_rows(capsys, workdir), strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in expected.items()}


def test_a_workdir_without_evaluation_is_listed_with_the_reason(tmp_path, capsys):
    done, raw = write_workdir(tmp_path / "done"), write_workdir(tmp_path / "raw", evaluated=False)
    status, _, err = report(capsys, done, raw)
    assert status == 0
    assert "raw: not evaluated: evaluation/ has no SPLIT.json" in err
    assert "raw: not evaluated" in (tmp_path / "report.html").read_text()
    (raw / "summary.json").unlink()
    assert "raw: not evaluated: training has not finished" in report(capsys, done, raw)[2]


def test_paths_that_are_no_workdirs_are_named_and_the_rest_reported(tmp_path, capsys):
    workdir = write_workdir(tmp_path / "run")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    status, _, err = report(capsys, workdir, tmp_path / "notes.txt", tmp_path / "empty", tmp_path / "gone")
    assert status == 0
    assert "notes.txt is not a workdir: it is a file" in err
    assert "empty/config.json: no such file; " in err  # what follows may be cut, after a long path
    assert "gone is not a workdir: it does not exist" in err
    status, out, err = report(capsys, tmp_path / "gone")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_a_second_report_over_the_same_glob_ignores_the_first(tmp_path, capsys):
    write_workdir(tmp_path / "a")
    write_workdir(tmp_path / "b")
    report(capsys, *sorted(tmp_path.glob("*")))
    assert (tmp_path / "report.html").exists()
    assert "no workdir" not in report(capsys, *sorted(tmp_path.glob("*")))[2]


def test_workdirs_of_the_same_name_have_distinct_names(tmp_path, capsys):
    rows = json_rows(capsys, write_workdir(tmp_path / "x" / "run"), write_workdir(tmp_path / "y" / "run"))
    assert [row["system"] for row in rows][:2] == ["x/run", "y/run"]


def test_seeds_are_grouped_with_mean_and_sample_deviation(tmp_path, capsys):
    workdirs = [write_workdir(tmp_path / f"student_seed{seed}", seed=seed) for seed in range(3)]
    other = write_workdir(tmp_path / "other", seed=0)
    (other / "config.json").write_text(json.dumps({"seed": 0, "model": {"units": 9}}))
    grouped, alone = json_rows(capsys, *workdirs, other, "--group-seeds")[:2]
    values = [scores_of(workdir)["ccc"]["valence"]["value"] for workdir in workdirs]
    assert (grouped["system"], grouped["seeds"]) == ("student", "0 1 2")
    assert grouped["ccc_valence"] == pytest.approx(np.mean(values))
    assert grouped["ccc_valence_deviation"] == pytest.approx(statistics.stdev(values))
    lows = [scores_of(workdir)["ccc"]["valence"]["low"] for workdir in workdirs]
    assert grouped["ccc_valence_low"] == pytest.approx(np.mean(lows))
    assert (alone["system"], alone["seeds"]) == ("other", "0")
    _, out, _ = report(capsys, *workdirs, "--group-seeds")
    assert "mean ± standard deviation over 3 seeds" in out


def test_a_copied_workdir_does_not_count_as_another_seed(tmp_path, capsys):
    workdir = write_workdir(tmp_path / "run_seed0")
    shutil.copytree(workdir, tmp_path / "run_seed1")
    rows = json_rows(capsys, workdir, tmp_path / "run_seed1", "--group-seeds")
    assert [row["system"] for row in rows][:2] == ["run_seed0", "run_seed1"]


def test_the_page_needs_nothing_else_and_shows_the_plots(tmp_path, capsys):
    report(capsys, write_workdir(tmp_path / "run", logged=True), "--output", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page)
    assert not re.findall(r"<(?:script|link|iframe)|@import|url\(", page)
    assert page.count("<img ") == 3  # attributes, confusion, learning curves
    assert "default-src 'none'" in page


def test_text_of_other_workdirs_becomes_no_markup_or_terminal_commands(tmp_path, capsys):
    evil = '<script>alert(1)</script><img src=x onerror="alert(1)">'
    workdir = write_workdir(tmp_path / "<b>[red]run", evaluated=False)
    (workdir / "config.json").write_text(json.dumps({"seed": evil}))
    (workdir / "evaluation").mkdir()
    scores = {"corpus": evil, "split": "\x1b[2Jtest", "n": 5, "interval": f"{evil}\x07", "uar": {"value": 0.5}}
    (workdir / "evaluation" / "test.json").write_text(json.dumps(scores))
    (workdir / "evaluation" / "test_<i>.png").write_bytes(PNG)
    (workdir / "evaluation" / "bad.json").write_text('{"' + evil)
    status, out, err = report(capsys, workdir)
    assert status == 0
    assert "<b>[red]run" in out
    assert not {"\x1b", "\x07"} & set(out + err)
    tags, attributes, text = elements_of((workdir / "report.html").read_text())
    assert not {"script", "b", "i"} & tags
    assert attributes <= {"charset", "content", "name", "http-equiv", "lang", "class", "colspan", "src", "alt", "open"}
    assert evil in text
    assert not {"\x1b", "\x07"} & set(text)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[1, 2]",
        "not json",
        '{"corpus": 1, "split": "test", "n": 3}',
        '{"corpus": "c", "split": "test", "n": -3}',
        '{"corpus": "c", "split": "test", "n": 1e999}',
    ],
)
def test_a_damaged_evaluation_is_reported_and_the_others_are_compared(tmp_path, capsys, content):
    workdir = write_workdir(tmp_path / "run")
    (workdir / "evaluation" / "broken.json").write_text(content)
    status, out, err = report(capsys, workdir)
    assert status == 0
    assert "split test" in out
    assert "broken.json" in err


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", True, [1], {"value": {}}, 10**400])
def test_a_score_that_is_no_number_is_skipped(tmp_path, capsys, value):
    workdir = write_workdir(tmp_path / "run")
    path = workdir / "evaluation" / "test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"uar": {"value": value}, "ccc": value}))
    row = json_rows(capsys, workdir)[0]
    assert row["uar"] is None
    assert row["ccc_valence"] is None
    assert row["macro_f1"] is not None


def test_only_png_files_are_embedded(tmp_path, capsys):
    workdir = write_workdir(tmp_path / "run")
    (tmp_path / "secret").write_text("secret")
    plot = workdir / "evaluation" / "test_attributes.png"
    plot.unlink()
    plot.symlink_to(tmp_path / "secret")
    report(capsys, workdir)
    assert (workdir / "report.html").read_text().count("<img ") == 1


def test_a_page_that_cannot_be_written_is_one_clear_line(tmp_path, capsys):
    workdir = write_workdir(tmp_path / "run")
    status, _, err = report(capsys, workdir, "--output", workdir / "config.json" / "page.html")
    assert status == 1
    assert err.startswith("error: ")
    assert "page.html: cannot be written" in err
