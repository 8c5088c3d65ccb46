"""A user's own corpus, through the build command."""

import csv
import json

import numpy as np
import pytest
import soundfile

from emojax.data import open_corpus, open_split
from tfds_builders.__main__ import main

HEADER = ("path", "activation", "valence", "dominance", "emotion", "transcript", "speaker", "gender", "split")
ROWS = (
    ("clips/a.wav", "1", "9", "5", "joy", "first words", "anna", "f", "train"),
    ("clips/b.flac", "2.5", "", "nan", "", "", "", "", "train"),
    ("clips/c.wav", "3", "4", "5", "rage", "  more   words ", "ben", "Male", "val"),
    ("clips/d.wav", "3", "4", "5", "rage", "the last", "cleo", "female", "test_a"),
)


def write(folder, rows=ROWS, header=HEADER, **description):
    (folder / "clips").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "b.flac", "c.wav", "d.wav")):
        rate = (16_000, 44_100, 8_000, 16_000)[number]
        samples = np.random.default_rng(number).normal(0, 0.1, (rate, 1 + number % 2))
        soundfile.write(folder / "clips" / name, samples, rate)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([header, *rows])
    (folder / "corpus.json").write_text(json.dumps({"name": "mine", "scale": [1, 9], **description}))


def build(folder, data_dir):
    return main(["folder", f"--manual_dir={folder}", f"--data_dir={data_dir}", "--processes=1"])


def examples(data_dir, name="mine"):
    corpus = open_corpus(f"folder/{name}", data_dir)
    return corpus, {split: {e["id"].decode(): e for e in open_split(corpus, split)} for split in corpus.split_sizes}


def error(folder, tmp_path, capsys):
    assert build(folder, tmp_path) == 1
    return capsys.readouterr().err


def test_a_table_becomes_a_corpus(tmp_path):
    write(tmp_path / "mine", licence="secret", speech="synthesised", attribute_source="derived")
    assert build(tmp_path / "mine", tmp_path) == 0
    corpus, found = examples(tmp_path)
    assert {split: len(examples) for split, examples in found.items()} == {"train": 2, "val": 1, "test_a": 1}
    assert (corpus.info.scale, corpus.info.categories) == ((1.0, 9.0), ("joy", "rage"))
    assert (corpus.info.licence, corpus.info.speech, corpus.info.attribute_source) == (
        "secret",
        "synthesised",
        "derived",
    )
    assert (corpus.roles.train, corpus.roles.validation, corpus.roles.test) == ("train", "val", ("test_a",))
    first, second, third = found["train"]["clips/a.wav"], found["train"]["clips/b.flac"], found["val"]["clips/c.wav"]
    np.testing.assert_array_equal(first["attributes"], [1, 9, 5])
    np.testing.assert_array_equal(second["attributes"], [2.5, np.nan, np.nan])
    assert (first["emotion"], second["emotion"], third["emotion"]) == (0, -1, 1)
    assert third["transcript"].decode() == "more words"
    assert (first["gender"], second["gender"], third["gender"]) == (b"female", b"", b"male")
    assert (first["speaker"], second["speaker"]) == (b"anna", b"")
    for example in (first, second, third):
        assert example["duration"] == pytest.approx(1.0, abs=1e-3)
    assert np.isnan(first["emotion_votes"]).all()


def test_json_lines_with_other_names_times_and_votes(tmp_path):
    write(
        tmp_path / "mine",
        table="rows.jsonl",
        columns={"activation": "EmoAct", "path": "wav"},
        categories=["rage", "joy", "calm"],
    )
    rows = [
        {
            "wav": "clips/a.wav",
            "start": 0.25,
            "end": 0.5,
            "EmoAct": 4,
            "votes_joy": 3,
            "votes_rage": 1,
            "split": "train",
        },
        {"wav": "clips/a.wav", "start": "0 days 00:00:00.5", "end": None, "EmoAct": None, "split": "train"},
    ]
    (tmp_path / "mine" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert build(tmp_path / "mine", tmp_path) == 0
    corpus, found = examples(tmp_path)
    assert corpus.roles is None
    cut = found["train"]["clips/a.wav[0.25-0.5]"]
    assert len(cut["audio"]) == 4_000
    np.testing.assert_allclose(cut["emotion_votes"], [0.25, 0.75, 0])
    assert cut["attributes"][0] == 4
    rest = found["train"]["clips/a.wav"]
    assert len(rest["audio"]) == 8_000
    whole, _ = soundfile.read(tmp_path / "mine" / "clips" / "a.wav", dtype="int16")
    np.testing.assert_array_equal(rest["audio"], whole[8_000:])


def test_audformat_tables_are_joined(tmp_path):
    write(tmp_path / "mine", table=["db.emotion.csv", "db.files.csv"])
    (tmp_path / "mine" / "db.yaml").write_text("name: mine\n")
    (tmp_path / "mine" / "db.emotion.csv").write_text("file,emotion,arousal\nclips/a.wav,joy,2\nclips/c.wav,rage,3\n")
    (tmp_path / "mine" / "db.files.csv").write_text(
        "file,speaker,sex,partition\nclips/a.wav,1,female,train\nclips/c.wav,2,male,test\nclips/d.wav,3,male,test\n"
    )
    assert build(tmp_path / "mine", tmp_path) == 0
    _, found = examples(tmp_path)
    assert set(found["train"]) == {"clips/a.wav"}
    assert found["test"]["clips/c.wav"]["gender"] == b"male"
    assert found["test"]["clips/c.wav"]["attributes"][0] == 3


def test_without_splits_speakers_are_divided_and_never_shared(tmp_path):
    names = [f"clips/{letter}.wav" for letter in "acd"]
    rows = [(names[i % 3], str(i), f"s{i % 7}", i / 10, i / 10 + 0.1) for i in range(9)]
    write(tmp_path / "mine", rows=rows, header=("path", "id", "speaker", "start", "end"))
    assert build(tmp_path / "mine", tmp_path) == 0
    _, found = examples(tmp_path)
    assert set(found) == {"train", "dev", "test"}
    speakers = [{example["speaker"] for example in split.values()} for split in found.values()]
    assert sum(map(len, speakers)) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "My Corpus"}, "name: 'My Corpus' is not allowed; allowed: lower-case letters"),
        ({"scale": [9, 1]}, "scale: [9, 1] is not allowed; allowed: [lowest, highest]"),
        ({"scale": [1, 5]}, "line 2: valence 9 is not allowed; allowed: 1 to 5"),
        ({"speech": "sung"}, "speech: 'sung' is not allowed; allowed: recorded, synthesised"),
        ({"tables": "a.csv"}, "no field 'tables'; allowed: "),
        ({"table": "gone.csv"}, "gone.csv: no such file"),
        ({"columns": {"valence": "Val"}}, "has no column 'Val'; its columns are path, activation"),
        ({"columns": {"mood": "Val"}}, "no column 'mood'; allowed: path, start"),
        ({"categories": ["joy"]}, "line 4: emotion 'rage' is not allowed; allowed: joy"),
    ],
)
def test_a_wrong_description_is_told_in_one_line(change, message, tmp_path, capsys):
    write(tmp_path / "mine", **change)
    assert message in error(tmp_path / "mine", tmp_path, capsys)


def test_wrong_rows_and_missing_files_are_told(tmp_path, capsys):
    write(tmp_path / "twice", rows=(ROWS[0], ROWS[0]))
    assert "line 3: 'clips/a.wav' occurs twice" in error(tmp_path / "twice", tmp_path, capsys)
    write(tmp_path / "words", rows=(("clips/a.wav", "high", *ROWS[0][2:]),))
    assert "activation 'high' is no number" in error(tmp_path / "words", tmp_path, capsys)
    write(tmp_path / "absent", rows=(("clips/x.wav", *ROWS[0][1:]),))
    assert "no file of the table is there" in error(tmp_path / "absent", tmp_path, capsys)
    write(tmp_path / "some", rows=(*ROWS, ("clips/x.wav", *ROWS[0][1:])))
    assert build(tmp_path / "some", tmp_path) == 0
    assert "without audio: 1" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert "has no corpus.json; found nothing" in error(tmp_path / "empty", tmp_path, capsys)
    assert main(["folder", f"--data_dir={tmp_path}"]) == 1
    assert "needs --manual_dir" in capsys.readouterr().err
