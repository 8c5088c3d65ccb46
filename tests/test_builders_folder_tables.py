"""Tables of user corpora: header, missing values, times, segments, splits, joins."""

import json

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from emojax.data import open_corpus, open_split
from emojax.segment_times import parse_end, parse_seconds
from tfds_builders.__main__ import main

# Time in seconds, and how pandas 3.1 writes it: `str(Timedelta)`, `Series.to_csv`, `isoformat`, `str(to_pytimedelta)`.
PANDAS = [
    (0, "0 days 00:00:00", "0 days", "P0DT0H0M0S", "0:00:00"),
    (0, "0 days 00:00:00.000000", "0 days 00:00:00.000000000", "P0DT0H0M0S", "0"),
    (1.5, "0 days 00:00:01.500000", "0 days 00:00:01.5", "P0DT0H0M1.5S", "0:00:01.500000"),
    (1.5, "1.5", "0 days 00:00:01.500000000", "P0DT0H0M1.500S", "1.5e0"),
    (1.500000001, "0 days 00:00:01.500000001", "1.500000001", "P0DT0H0M1.500000001S", "00:00:01.500000001"),
    (86_400, "1 days 00:00:00", "1 days", "P1DT0H0M0S", "1 day, 0:00:00"),
    (93_784, "1 days 02:03:04", "1 days 02:03:04.000000", "P1DT2H3M4S", "1 day, 2:03:04"),
    (-1, "-1 days +23:59:59", "-1 days +23:59:59.000000", "P-1DT23H59M59S", "-1 day, 23:59:59"),
    (-0.5, "-1 days +23:59:59.500000", "-0.5", "P-1DT23H59M59.5S", "-1 day, 23:59:59.500000"),
]


@pytest.mark.parametrize(("seconds", "written"), [(row[0], text) for row in PANDAS for text in row[1:]])
def test_times_written_by_pandas_are_parsed(seconds, written):
    assert parse_seconds(written) == pytest.approx(seconds, abs=1e-9)


@given(st.timedeltas())
def test_times_written_by_python_are_parsed(time):
    assert parse_seconds(str(time)) == pytest.approx(time.total_seconds(), rel=1e-12, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "inf", "-inf", "nan", "1e999", "1_0", "0:99", "0:60:00", "P", "PT", "days", "0 days 5", "1 5", "9" * 400],
)
def test_invalid_times_raise(text):
    with pytest.raises(ValueError, match=r"must be a time in seconds, or of the form 0 days 00:00:01\.5"):
        parse_seconds(text)


def test_an_end_of_minus_one_or_none_is_the_end_of_the_file():
    assert [parse_end(text) for text in ("", "-1", "-1.0", "-1 days +23:59:59")] == [None] * 4
    assert (parse_end("-2"), parse_end("0"), parse_end("2.5")) == (-2, 0, 2.5)


@pytest.fixture
def folder(tmp_path):
    """Audio of 3 s, `a.wav` to `d.wav`, whose samples count up (16 bits of it), and `corpus.json`."""
    made = tmp_path / "mine"
    made.mkdir()
    for name in "abcd":
        soundfile.write(made / f"{name}.wav", np.arange(48_000).astype(np.int16), 16_000)
    describe(made)
    return made


def describe(folder, **description):
    (folder / "corpus.json").write_text(json.dumps({"name": "mine", "scale": [1, 9], **description}))


def build(folder, table=None, name="table.csv"):
    if table is not None:
        (folder / name).write_bytes(table.encode())
    return main(["folder", f"--manual_dir={folder}", f"--data_dir={folder.parent}", "--processes=1", "--overwrite"])


def built(folder, capsys, table=None, name="table.csv"):
    """The summary, and the examples by id."""
    assert build(folder, table, name) == 0, capsys.readouterr().err
    corpus = open_corpus("folder/mine", folder.parent)
    splits = (open_split(corpus, split) for split in corpus.split_sizes)
    return capsys.readouterr().out, {example["id"].decode(): example for split in splits for example in split}


def error(folder, capsys, table=None, name="table.csv"):
    assert build(folder, table, name) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_segments_have_start_and_end_of_the_table(folder, capsys):
    summary, found = built(
        folder,
        capsys,
        "path,valence,split,start,end\n"
        "a.wav,1,train,0,-1\n"
        "b.wav,1,train,,\n"
        "c.wav,1,train,1,-1\n"
        "c.wav,1,train,2,\n"
        "c.wav,1,train,0.5,1.5\n"
        "c.wav,1,train,2.5,3.5\n"
        "d.wav,1,train,2,3.0005\n"
        "a.wav,1,train,0 days 00:00:01.123456700,0 days 00:00:02\n"
        "a.wav,1,train,0 days 00:00:01.123456800,-1 days +23:59:59\n",
    )
    starts = {name: (int(example["audio"][0]), len(example["audio"])) for name, example in found.items()}
    assert starts == {
        "a.wav": (0, 48_000),
        "b.wav": (0, 48_000),
        "c.wav[1-]": (16_000, 32_000),
        "c.wav[2-]": (32_000, 16_000),
        "c.wav[0.5-1.5]": (8_000, 16_000),
        "c.wav[2.5-3.5]": (40_000 - 2**16, 8_000),
        "d.wav[2-3.0005]": (32_000, 16_000),
        "a.wav[1.1234567-2]": (17_975, 14_025),
        "a.wav[1.1234568-]": (17_975, 30_025),
    }
    assert "end cut to audio: 1\n" in summary


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ("-0.2,3", "line 2: start must be >= 0 s, got -0.2"),
        ("-1,3", "line 2: start must be >= 0 s, got -1"),
        ("0,-2", "line 2: end must be > start, or empty or -1 for the end of the file, got -2"),
        ("2,1", "line 2: end must be > start, got start 2 and end 1"),
        ("1,1", "line 2: end must be > start, got start 1 and end 1"),
        ("inf,", "line 2: start 'inf' must be a time"),
        ("0,inf", "line 2: end 'inf' must be a time"),
        ("0,1e999", "line 2: end '1e999' must be a time"),
        ("soon,", "line 2: start 'soon' must be a time in seconds"),
    ],
)
def test_invalid_segments_raise_naming_the_line(times, message, folder, capsys):
    assert message in error(folder, capsys, f"path,start,end,valence,split\na.wav,{times},1,train\n")


def test_start_beyond_the_file_is_skipped_counted_and_named(folder, capsys):
    table = "path,start,end,valence,split\n" + "".join(f"{name}.wav,0,1,1,train\n" for name in "abcd")
    assert build(folder, table + "a.wav,3,4,1,train\n") == 0
    output = capsys.readouterr()
    assert "table.csv, line 6: start 3 s is beyond the end of" in output.err
    assert "start beyond audio: 1\n" in output.out


def test_end_beyond_the_file_is_clipped(folder, capsys):
    summary, found = built(folder, capsys, "path,start,end,valence,split\na.wav,1,1e308,1,train\n")
    assert len(found["a.wav[1-1e+308]"]["audio"]) == 32_000
    assert "end cut to audio: 1" in summary


def test_header_is_matched_ignoring_case_blanks_and_delimiter(folder, capsys):
    for table in (
        "Path , Activation , VALENCE,Votes_Joy,Partition\na.wav,2,3,1,train\n",
        "path;activation;valence;votes_joy;split\na.wav;2;3;1;train\n",
        "file\tarousal\tvalence\tvotes_joy\tpartition\na.wav\t2\t3\t1\ttrain\n",
    ):
        summary, found = built(folder, capsys, table)
        np.testing.assert_array_equal(found["a.wav"]["attributes"], [2, 3, np.nan])
        np.testing.assert_array_equal(found["a.wav"]["emotion_votes"], [1])
        assert "not used" not in summary
        assert "without dominance: 1\n" in summary
        assert "without emotion: 1\n" in summary


def test_summary_lists_unused_and_similar_columns(folder, capsys):
    describe(folder, categories=["joy"])
    table = "path,activation,valance,Spekaer,room,,votes_joy,votes_calm,split\na.wav,2,3,anna,b,c,1,4,train\n"
    summary, found = built(folder, capsys, table)
    assert "table.csv: column 'valance' is not used; did you mean 'valence'?\n" in summary
    assert "table.csv: column 'Spekaer' is not used; did you mean 'speaker'?\n" in summary
    assert "table.csv: unused columns: room, (unnamed)\n" in summary
    assert "unused columns, which match no category: votes_calm\n" in summary
    assert "without valence: 1\n" in summary
    assert "unknown speaker: 1\n" in summary
    np.testing.assert_array_equal(found["a.wav"]["emotion_votes"], [1])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,valance\na.wav,1\n", "has no column of labels"),
        ("path,valance\na.wav,1\n", "did you mean 'valence'?"),
        ("path,mood,words\na.wav,joy,x\n", "table.csv: unused columns: mood, words"),
        ("path,emotion,valence\na.wav,-1,NA\nb.wav,None,\n", "every value of emotion, valence is missing"),
        ("paht,valence\na.wav,1\n", "has no column 'path'; its columns are paht, valence; column 'paht' is not used"),
        ("path,valence,Valence\na.wav,1,2\n", "columns 'valence', 'Valence' all match 'valence'; name one in"),
        ("path,votes_a,Votes_A\na.wav,1,2\n", "columns 'Votes_A', 'votes_a' all match 'votes_A'"),
        ("path,valence\n", "table.csv: has no rows"),
        (
            "path,valence,speaker\na.wav,1,x\nb.wav,1,y\n",
            "must have splits, or at least 3 speakers, got 2",
        ),
        (
            "path;valence;split\na.wav;1,5;train\n",
            "valence '1,5' is not a finite number; decimals have a point",
        ),
        ("path,valence\n,1\n", "line 2: path is missing"),
    ],
)
def test_table_without_labels_path_or_rows_raises(table, message, folder, capsys):
    found = error(folder, capsys, table)
    assert message in found


def test_table_without_labels_is_read_if_unlabelled_is_set(folder, capsys):
    describe(folder, unlabelled=True)
    summary, found = built(folder, capsys, "path,split\na.wav,train\n")
    assert np.isnan(found["a.wav"]["attributes"]).all()
    assert "without activation: 1" in summary


def test_line_breaks_within_fields_become_blanks(folder, capsys):
    words = "one\r\ntwo\u2028three\x85four\x0bfive\nsix"
    expected = b"one two three four five six"
    _, found = built(folder, capsys, f'path,valence,split,transcript\na.wav,1,train,"{words}"\nb.wav,2,train,{"x"}\n')
    assert found["a.wav"]["transcript"] == expected
    assert found["b.wav"]["attributes"][1] == 2
    describe(folder, table="rows.jsonl")
    row = {"path": "a.wav", "valence": 1, "split": "train", "transcript": words}
    _, found = built(folder, capsys, json.dumps(row, ensure_ascii=False) + "\r\n", "rows.jsonl")
    assert found["a.wav"]["transcript"] == expected


def test_stray_quote_raises_naming_the_line(folder, capsys):
    rows = [f"{number}.wav,1,train,x" for number in range(3_000)]
    rows[2_500] = '2500.wav,1,train,"x'
    assert "line 2502: is not valid CSV" in error(folder, capsys, "\n".join(["path,valence,split,words", *rows]))


MISSING = ("NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "None", "NaT", "")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_missing_values_apply_to_all_columns_and_are_reported(form, folder, capsys):
    rows = [("a.wav", 1, "joy", "anna", "words here", "f", 0, 1)]
    rows += [
        (f"{'bcd'[place % 3]}.wav", value, value, value, value, value, place * 0.1, value)
        for place, value in enumerate(MISSING)
    ]
    names = ("path", "valence", "emotion", "speaker", "transcript", "gender", "start", "end")
    if form == "csv":
        table = "\n".join(",".join(map(str, row)) for row in [(*names, "split"), *((*row, "train") for row in rows)])
    else:
        describe(folder, table="table.jsonl")
        listed = [dict(zip(names, row, strict=True), split="train") for row in rows]
        listed[1] |= dict.fromkeys(names[1:6], float("nan"))
        listed[2] |= dict.fromkeys(names[1:6])
        table = "\n".join(map(json.dumps, listed))
    summary, found = built(folder, capsys, table, f"table.{form}")
    assert open_corpus("folder/mine", folder.parent).info.categories == ("joy",)
    for name, example in found.items():
        if not name.startswith("a.wav"):
            assert np.isnan(example["attributes"]).all()
            assert example["emotion"] == -1
            assert example["speaker"] == example["transcript"] == example["gender"] == b""
    assert len(found) == 11
    assert "without valence: 10\n" in summary
    assert "without emotion: 10\n" in summary
    assert "unknown speaker: 10\n" in summary
    assert f"table.{form}: read as missing: " in summary
    assert "'None' in speaker (1)" in summary
    assert "gender not recognised" not in summary


def test_missing_values_can_be_configured(folder, capsys):
    describe(folder, missing_values=["-99", "?"])
    table = "path,valence,emotion,speaker,split\na.wav,-99,None,NA,train\nb.wav,3,?,-99,train\n"
    summary, found = built(folder, capsys, table)
    assert open_corpus("folder/mine", folder.parent).info.categories == ("None",)
    assert np.isnan(found["a.wav"]["attributes"][1])
    assert (found["a.wav"]["speaker"], found["b.wav"]["speaker"]) == (b"NA", b"")
    assert "table.csv: read as missing: '?' in emotion (1), '-99' in speaker (1), '-99' in valence (1)\n" in summary
    message = error(folder, capsys, "path,valence,split\na.wav,nan,train\n")
    assert "line 2: valence 'nan' is not a finite number" in message


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"speaker": True}, "line 1: speaker must be text, a number or null, got true"),
        ({"valence": ["x"]}, 'line 1: valence must be text, a number or null, got ["x"]'),
        ({"transcript": {"words": "x"}}, 'line 1: transcript must be text, a number or null, got {"words": "x"}'),
        ({"transcript": "\ud800"}, 'line 1: transcript must be text, got "\\ud800"'),
        ({"speaker": "a\0"}, "line 1: speaker must be text"),
        ({"valence": float("inf")}, "line 1: valence 'Infinity' is not a finite number"),
        ({"activation_std": -1}, "line 1: activation_std must be 0 to inf, got -1"),
        ({"votes_joy": -1}, "line 1: votes_joy must be 0 to inf, got -1"),
    ],
)
def test_values_of_json_lines_are_checked(row, message, folder, capsys):
    describe(folder, table="rows.jsonl")
    rows = json.dumps({"path": "a.wav", "split": "train", "emotion": "joy", **row})
    assert message in error(folder, capsys, rows, "rows.jsonl")


def test_numbers_in_text_columns_are_kept_as_written(folder, capsys):
    describe(folder, table="rows.jsonl")
    row = '{"path": "a.wav", "split": "train", "valence": 3, "speaker": 3.0, "id": 12, "custom": {"a": [1, true]}}'
    _, found = built(folder, capsys, row, "rows.jsonl")
    assert found["12"]["speaker"] == b"3.0"


def test_categories_are_matched_ignoring_case(folder, capsys):
    table = "path,emotion,split\na.wav,Joy,train\nb.wav,joy ,train\n"
    assert "line 3: emotion 'joy' is also written 'Joy'; name one in `categories`" in error(folder, capsys, table)
    describe(folder, categories=["rage", "joy"])
    _, found = built(folder, capsys, table)
    assert [found[name]["emotion"] for name in ("a.wav", "b.wav")] == [1, 1]


@pytest.mark.parametrize("name", ["a/b", "a b", "a[:50%]", "a+b", "all", "../x", "a.b", "a" * 51])
def test_invalid_split_name_raises(name, folder, capsys):
    message = error(folder, capsys, f"path,valence,split\na.wav,1,train\nb.wav,1,{name}\n")
    assert f"line 3: split must be at most 50 letters, digits, _ and -, and not 'all', got {name!r}" in message


def test_splits_with_other_names_are_built(folder, capsys):
    _, found = built(folder, capsys, "path,valence,split\na.wav,1,Train\nb.wav,1,Dev\nc.wav,1,Test-1\nd.wav,1,prüf_2\n")
    assert len(found) == 4
    split_assignment = open_corpus("folder/mine", folder.parent).split_assignment
    assert (split_assignment.train, split_assignment.validation, split_assignment.test) == ("Train", "Dev", ("Test-1",))
    message = error(folder, capsys, "path,valence,split\na.wav,1,Train\nb.wav,1,train\n")
    assert "line 3: split 'train' is also written 'Train'" in message
    assert "line 3: split is missing" in error(folder, capsys, "path,valence,split\na.wav,1,Train\nb.wav,1,NA\n")
    message = error(folder, capsys, "path,valence,split\na.wav,1,train\ngone.wav,1,dev\n")
    assert "all files of split 'dev' are missing, e.g." in message


def test_speakers_in_several_splits_and_unknown_genders_are_counted(folder, capsys):
    table = "path,valence,split,speaker,gender\na.wav,1,train,anna,f\nb.wav,1,dev,anna,woman\nc.wav,1,test,,\n"
    summary, _ = built(folder, capsys, table)
    assert "speakers in several splits: 1\n" in summary
    assert "gender not recognised: 1\n" in summary
    assert "unknown speaker: 1\n" in summary


def test_duplicate_id_raises_naming_both_lines(folder, capsys):
    message = error(folder, capsys, "path,valence,id,split\na.wav,1,x,train\nb.wav,1,x,train\n")
    assert "line 3: id 'x' occurs twice, first: " in message
    assert "line 2" in message


# As audformat 1.4 writes a segmented and a filewise table.
SEGMENTED = (
    "file,start,end,emotion,arousal\n"
    "a.wav,0 days 00:00:00.000000,0 days 00:00:00.500000,joy,1.1\n"
    "a.wav,0 days 00:00:00.500000,0 days 00:00:01.000000,rage,1.2\n"
    "c.wav,0 days 00:00:00.000000,,,\n"
)
FILEWISE = "file,speaker\na.wav,s1\nc.wav,\nd.wav,s3\n"


def test_filewise_audformat_table_applies_to_all_segments(folder, capsys):
    describe(folder, table=["db.emotion.csv", "db.files.csv", "db.splits.csv"])
    (folder / "db.emotion.csv").write_text(SEGMENTED)
    (folder / "db.files.csv").write_text(FILEWISE)
    splits = "file,start,end,partition\na.wav,0 days,0.5,train\na.wav,0.50,1,train\nc.wav,0,NaT,test\n"
    summary, found = built(folder, capsys, splits, "db.splits.csv")
    assert {name: example["speaker"] for name, example in found.items()} == {
        "a.wav[0-0.5]": b"s1",
        "a.wav[0.5-1]": b"s1",
        "c.wav": b"",
    }
    assert found["a.wav[0.5-1]"]["attributes"][0] == np.float32(1.2)
    assert "db.files.csv: rows without match in db.emotion.csv: 1\n" in summary


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("path,speaker\nx.wav,s1\n", "no row has path, start and end of a row of one.csv"),
        ("path,emotion\na.wav,rage\n", "two.csv, line 2: emotion 'rage' contradicts 'joy' in "),
        ("path,speaker\na.wav,s\na.wav,s\n", "two.csv, line 3: 'a.wav' occurs twice"),
    ],
)
def test_inconsistent_tables_raise(second, message, folder, capsys):
    describe(folder, table=["one.csv", "two.csv"], columns={"valence": "Val"})
    (folder / "one.csv").write_text("path,emotion,split,val\na.wav,joy,train,3\n")
    assert message in error(folder, capsys, second, "two.csv")


def test_configured_column_is_required_in_one_table_only(folder, capsys):
    describe(folder, table=["one.csv", "two.csv"], columns={"valence": "Val"})
    (folder / "one.csv").write_text("path,split,VAL\na.wav,train,3\nb.wav,train,4\n")
    summary, found = built(folder, capsys, "path,speaker\na.wav,s\n\n", "two.csv")
    assert found["a.wav"]["attributes"][1] == 3
    assert "one.csv: rows without match in two.csv: 1\n" in summary


def test_other_encoding_and_empty_rows_are_reported(folder, capsys):
    (folder / "table.csv").write_bytes("path,valence,split,speaker\na.wav,1,train,Jörg\n,,,\n".encode("cp1252"))
    summary, found = built(folder, capsys)
    assert found["a.wav"]["speaker"].decode() == "Jörg"
    assert "table.csv: not UTF-8; read as Windows-1252\n" in summary
    assert "table.csv: empty rows skipped: 1\n" in summary
