"""Clips of the predict command: files, folders, tables, lists, standard input; invalid ones are one line."""

import datetime
import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from emojax.errors import AudioError, CorpusError
from emojax.inference.sources import Clip, open_sources
from emojax.inference.tables import write_failures


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Function that lists the clips of arguments; relative ones are in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def listed(*inputs, stdin=b"", root=None):
        with open_sources(inputs, root, io.BytesIO(stdin)) as clips:
            return clips

    return listed


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_folders_are_searched_and_a_file_that_is_given_twice_is_predicted_once(listed):
    for name in ("clips/b.wav", "clips/more/a.FLAC", "clips/.hidden.wav", "clips/notes.md", "odd.bin"):
        write(name, "")
    Path("clips/dead.wav").symlink_to("nowhere.wav")
    found = [clip.file for clip in listed("odd.bin", "clips", "clips/b.wav")]
    assert found == ["odd.bin", "clips/b.wav", "clips/dead.wav", "clips/more/a.FLAC"]


def test_a_table_has_times_in_seconds_or_of_audformat_and_paths_in_its_folder(listed, tmp_path):
    write(
        "db/table.csv",
        "start,file,end,emotion,transcript\n"
        ",a.wav,,anger,well done\n"
        "0.5,a.wav,1.25,,\n"
        "0 days 00:00:01.500000,/x/b.wav,0 days 00:01:00,,\n"
        "0,'=c.wav,NaT,,\n",
    )
    expected = [
        Clip("a.wav", Path("db/a.wav"), 0.0, None, "well done"),
        Clip("a.wav", Path("db/a.wav"), 0.5, 1.25),
        Clip("/x/b.wav", Path("/x/b.wav"), 1.5, 60.0),
        Clip("=c.wav", Path("db/=c.wav")),
    ]
    assert listed("db/table.csv") == expected
    assert listed("db/table.csv", root=Path("/data"))[0].path == Path("/data/a.wav")
    first, *_ = listed("-", stdin=Path("db/table.csv").read_bytes())
    assert first.path == Path("a.wav")


def test_json_lines_parquet_and_lists(listed):
    rows = [{"file": "a.wav", "start": 0.5, "end": None, "label": [1]}, {"path": "b.wav", "transcript": "well"}]
    lines = "\n".join(map(json.dumps, rows))
    write("table.jsonl", lines)
    expected = [Clip("a.wav", Path("a.wav"), 0.5), Clip("b.wav", Path("b.wav"), transcript="well")]
    assert listed("table.jsonl") == listed("-", stdin=lines.encode()) == expected
    times = pyarrow.array([datetime.timedelta(seconds=1.5), None], pyarrow.duration("ns"))
    table = {"file": ["a.wav", "b.wav"], "start": times, "end": [2.0, None], "label": [1, 2]}
    pyarrow.parquet.write_table(pyarrow.table(table), "table.parquet")
    assert listed("table.parquet") == [Clip("a.wav", Path("a.wav"), 1.5, 2.0), Clip("b.wav", Path("b.wav"))]
    write("lists/list.txt", "a.wav\n\n  b,file.wav\r\n")
    assert listed("lists/list.txt") == [
        Clip("a.wav", Path("lists/a.wav")),
        Clip("b,file.wav", Path("lists/b,file.wav")),
    ]
    assert [clip.path for clip in listed("-", stdin="ä.wav\nb.wav".encode())] == [Path("ä.wav"), Path("b.wav")]


def test_audio_on_standard_input_is_a_file_until_the_end(tmp_path):
    content = io.BytesIO()
    soundfile.write(content, np.zeros(16_000), 16_000, format="WAV")
    with open_sources(["-"], None, io.BytesIO(content.getvalue())) as (clip,):
        assert (clip.file, clip.path.read_bytes()) == ("-", content.getvalue())
    assert not clip.path.exists()


def test_the_table_of_failures_is_a_table_of_clips(listed):
    write_failures(Path("failed.csv"), [("=a,b.wav", 0.0, None, "=no\nfile"), ("c.wav", 1.5, 2.0, "damaged")])
    assert listed("failed.csv") == [Clip("=a,b.wav", Path("=a,b.wav")), Clip("c.wav", Path("c.wav"), 1.5, 2.0)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "name,start\na.wav,1\n", "a.csv: has no column 'file'; its columns are name, start"),
        ("a.csv", "file,start\na.wav,late\n", "a.csv, line 2: start 'late' must be a time in seconds, or of the form"),
        ("a.csv", "file,start\na.wav,-1\n", "a.csv, line 2: start must be >= 0 s, got -1"),
        ("a.csv", "file,start,end\na.wav,2,1\n", "a.csv, line 2: end must be > start, got start 2 and end 1"),
        ("a.csv", "file,start\n,1\n", "a.csv, line 2: file is missing"),
        ("a.csv", "file,start\na.wav\n", "a.csv, line 2: must have 2 fields like the header, got 1"),
        ("a.csv", "file\n", "a.csv: no clip to predict"),
        ("a.csv", "", "a.csv: has no header"),
        ("a.jsonl", '{"file": 1.5}\n[]', "a.jsonl, line 2: must hold a JSON object, got list"),
        ("a.jsonl", '{"file": ["a"]}', "a.jsonl, line 1: file must be text, a number or null, got"),
        ("a.jsonl", '{"name": "a"}', "a.jsonl: has no column 'file'; its columns are name"),
        ("a.parquet", "PAR1", "a.parquet: cannot be read as Parquet"),
        ("a.txt", "\n \n", "a.txt: no clip to predict"),
        ("none.csv", None, "none.csv: cannot be read (No such file or directory)"),
        ("none.wav", None, "none.wav: no such file or folder"),
        ("-", None, "standard input: is empty"),
    ],
)
def test_invalid_lists_are_one_line_that_names_the_place(listed, name, content, message):
    if content is not None:
        write(name, content)
    with pytest.raises((AudioError, CorpusError)) as error:
        listed(name)
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1


def test_a_folder_without_audio_is_an_error(listed):
    Path("empty").mkdir()
    with pytest.raises(AudioError, match="empty: has no audio file"):
        listed("empty")
