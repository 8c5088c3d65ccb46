"""User corpora, built by the command."""

import csv
import json
import shlex

import numpy as np
import pytest
import soundfile

from emojax.data import open_corpus, open_split
from emojax.data.corpus import _NEEDS_MANUAL_DIR
from emojax.errors import CorpusError
from emojax.types import SplitAssignment
from tfds_builders.__main__ import main
from tfds_builders.registry import ENTRIES, check_names
from tfds_builders.utterance import read_pcm

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


def test_folder_with_table_is_built(tmp_path):
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
    assert corpus.split_assignment == SplitAssignment("train", "val", ("test_a",))
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


def test_audio_is_read_from_urls(tmp_path, capsys):
    import fsspec

    def url(number):  # the URL is the default id too
        return f"memory://bucket/{number}.wav"

    write(tmp_path / "local")
    for number in range(2):
        fsspec.filesystem("memory").pipe(url(number), (tmp_path / "local/clips/a.wav").read_bytes())
    rows = [(url(0), *ROWS[0][1:]), (url(1), *ROWS[2][1:]), ("nowhere://b/c.wav", *ROWS[0][1:])]
    write(tmp_path / "mine", rows)
    assert build(tmp_path / "mine", tmp_path) == 0
    assert "skipped: nowhere://b/c.wav: cannot be read (Protocol not known: nowhere)" in capsys.readouterr().err
    _, found = examples(tmp_path)
    expected = read_pcm(tmp_path / "local/clips/a.wav")
    np.testing.assert_array_equal(found["train"][url(0)]["audio"], expected)
    np.testing.assert_array_equal(found["val"][url(1)]["audio"], expected)
    assert build(tmp_path / "mine", tmp_path) == 0  # not compared with the bucket


def test_json_lines_with_renamed_columns_times_and_votes(tmp_path):
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
    assert corpus.split_assignment is None
    cut = found["train"]["clips/a.wav[0.25-0.5]"]
    assert len(cut["audio"]) == 4_000
    np.testing.assert_allclose(cut["emotion_votes"], [0.25, 0.75, 0])
    assert cut["attributes"][0] == 4
    rest = found["train"]["clips/a.wav[0.5-]"]
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


def test_table_without_splits_gets_speaker_disjoint_splits(tmp_path):
    names = [f"clips/{letter}.wav" for letter in "acd"]
    rows = [(names[i % 3], str(i), f"s{i % 7}", i / 10, i / 10 + 0.1) for i in range(9)]
    write(tmp_path / "mine", rows=rows, header=("path", "id", "speaker", "start", "end"), unlabelled=True)
    assert build(tmp_path / "mine", tmp_path) == 0
    _, found = examples(tmp_path)
    assert set(found) == {"train", "dev", "test"}
    speakers = [{example["speaker"] for example in split.values()} for split in found.values()]
    assert sum(map(len, speakers)) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "My Corpus"}, "corpus.json.name must be at most 100 lower-case letters, digits and _"),
        ({"name": "a" * 101}, "corpus.json.name must be at most 100 lower-case letters"),
        ({"name": None}, "corpus.json.name must be text, got None"),
        ({"scale": [9, 1]}, "scale must be lowest and highest rating, got [9.0, 1.0]"),
        ({"scale": [1, float("inf")]}, "scale[1] must be a finite number, got inf"),
        ({"scale": [1, 10**400]}, "scale[1] must be a finite number"),
        ({"scale": [False, True]}, "scale[0] must be a number, got False"),
        ({"scale": [1, 5]}, "line 2: valence must be 1 to 5, got 9"),
        ({"speech": "sung"}, "speech must be 'recorded' or 'synthesised', got 'sung'"),
        ({"tables": "a.csv"}, "corpus.json.tables: no such field; did you mean 'table'?"),
        ({"table": "gone.csv"}, "gone.csv: no such file"),
        ({"table": []}, "table must not be empty"),
        ({"table": [1]}, "table must be text or a list, each text, got [1]"),
        ({"columns": {"valence": ["Val"]}}, "columns.valence must be text, got ['Val']"),
        ({"columns": {"valence": "Val"}}, "has no column 'Val'; its columns are path, activation"),
        ({"columns": {"mood": "Val"}}, "columns.mood: no such column; columns are path, start"),
        ({"seed": True}, "seed must be an integer, got True"),
        ({"missing_values": [-99]}, "missing_values[0] must be text, got -99"),
        ({"licence": "\ud800"}, "must be Unicode text without lone surrogates"),
        ({"unlabelled": 1}, "unlabelled must be True or False, got 1"),
        (
            {"categories": ["joy", "rage", "joy"]},
            "categories must differ, also in lower case, got ['joy', 'rage', 'joy']",
        ),
        ({"categories": ["joy", "Joy "]}, "categories must differ, also in lower case"),
        ({"categories": [1, 2]}, "categories[0] must be text, got 1"),
        ({"categories": ["joy", None]}, "categories[1] must be text, got None"),
        ({"categories": "joy"}, "categories must be a list, each text, got 'joy'"),
        ({"categories": ["joy", ""]}, "categories must be one line each, and none of missing_values or -1, got ''"),
        ({"categories": ["joy", "rage\nfury"]}, "categories must be one line each"),
        ({"categories": ["joy", "NA"]}, "none of missing_values or -1, got 'NA'"),
        ({"categories": ["joy"]}, "line 4: emotion must be one of joy, got 'rage'"),
    ],
)
def test_invalid_description_raises_one_line_error(change, message, tmp_path, capsys):
    write(tmp_path / "mine", **change)
    assert message in error(tmp_path / "mine", tmp_path, capsys)


def test_invalid_rows_and_missing_files_raise(tmp_path, capsys):
    write(tmp_path / "twice", rows=(ROWS[0], ROWS[0]))
    assert "line 3: 'clips/a.wav' occurs twice, first: " in error(tmp_path / "twice", tmp_path, capsys)
    write(tmp_path / "words", rows=(("clips/a.wav", "high", *ROWS[0][2:]),))
    assert "line 2: activation 'high' is not a finite number" in error(tmp_path / "words", tmp_path, capsys)
    write(tmp_path / "absent", rows=(("clips/x.wav", *ROWS[0][1:]),))
    assert "all files of the table are missing" in error(tmp_path / "absent", tmp_path, capsys)
    write(tmp_path / "some", rows=(*ROWS, ("clips/x.wav", *ROWS[0][1:])))
    assert build(tmp_path / "some", tmp_path) == 0
    assert "without audio: 1" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert "has no corpus.json; found nothing" in error(tmp_path / "empty", tmp_path, capsys)
    assert main(["folder", f"--data_dir={tmp_path}"]) == 1
    assert "--manual_dir is missing" in capsys.readouterr().err


def test_suggested_build_command_works(tmp_path, monkeypatch):
    write(tmp_path / "FOLDER")
    monkeypatch.chdir(tmp_path)
    data_dir = tmp_path / "with blanks"
    with pytest.raises(CorpusError, match="where FOLDER holds your copy") as caught:
        open_corpus("folder/mine", data_dir)
    command = shlex.split(str(caught.value).split("`")[1])
    assert command[:3] == ["python", "-m", "tfds_builders"]
    assert main([*command[3:], "--processes=1"]) == 0
    assert open_corpus("folder/mine", data_dir).split_sizes["train"] == 2


@pytest.mark.parametrize(
    "name", ["folder", "folder/mine", "emodb", "iemocap/four", "msp_podcast/v2_0", "emobank_spoken/quick"]
)
def test_suggested_build_command_has_required_flags(name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("tfds_builders.__main__._build_all", asked.append)
    with pytest.raises(CorpusError) as caught:
        open_corpus(name, tmp_path)
    assert main(shlex.split(str(caught.value).split("`")[1])[3:]) == 0
    (options,) = asked
    check_names(*options.names, options.config)
    assert f"{options.names[0]}/{options.config}".startswith(name) or name == "folder/mine"
    assert bool(options.manual_dir) == ENTRIES[options.names[0]].needs_manual_dir


def test_corpora_with_manual_dir_match_the_registry():
    assert set(_NEEDS_MANUAL_DIR) == {name for name, entry in ENTRIES.items() if entry.needs_manual_dir}
