"""Parsing of tables: round trips with csv and json, and errors that name the line."""

import csv
import io
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emojax.errors import CorpusError
from emojax.tables import MISSING_VALUES, json_object, parse_csv, parse_json_lines, parse_number, read_table
from emojax.text_files import read_lines, read_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SEPARATORS = "a\u2028b\x85c\x0bd\x0ce\x1cf\r\ng\rh\ni"


def parsed(text, path="t.csv"):
    header, rows = parse_csv(text, path)
    return header, list(rows)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), st.sampled_from([",", ";", "\t", "|"]))
@example([(SEPARATORS, 'He said "no", twice')], ",")
def test_parse_csv_reads_output_of_csv_module(rows, delimiter):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("path", "transcript"), *rows])
    header, found = parsed(file.getvalue())
    assert header == ["path", "transcript"]
    assert [fields for _, fields in found] == [[field.strip() for field in row] for row in rows]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(TEXT, TEXT, max_size=3), max_size=5))
@example([{"transcript": SEPARATORS}])
def test_parse_json_lines_reads_output_of_json_module(rows):
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert list(parse_json_lines(text, "t.jsonl")) == list(enumerate(rows, start=1))


def test_numbers_in_json_lines_are_kept_as_written_and_nan_is_none():
    line = '{"speaker": 7.5e1, "a": NaN, "b": 1e999, "c": -Infinity, "d": null, "e": 3.0}'
    (_, row), *_ = parse_json_lines(line, "t.jsonl")
    assert row == {"speaker": "7.5e1", "a": None, "b": "1e999", "c": "-Infinity", "d": None, "e": "3.0"}
    assert json_object('{"scale": [1, 2.5]}', "corpus.json") == {"scale": [1, 2.5]}


def test_line_numbers_are_first_lines_of_rows():
    _, rows = parsed('path,transcript\na,"one\ntwo\r\nthree"\n\n\nb,x\r\nc,"\n"\n')
    assert [line for line, _ in rows] == [2, 7, 8]


def test_blanks_around_names_fields_and_quotes_are_ignored():
    assert parsed(' path , valence\n a.wav , "1, 2" \n'.replace('" \n', '"\n')) == (
        ["path", "valence"],
        [(2, ["a.wav", "1, 2"])],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path,words\na,x\nb,"no end\nc,x\n', "t.csv, line 3: is not valid CSV (unexpected end of data)"),
        ('path,words\na,"stray"quote"\n', "t.csv, line 2: is not valid CSV (',' expected after '\"')"),
        (
            'path,words\na,x\nb,"' + "x" * 140_000 + '"\n',
            "t.csv, line 3: is not valid CSV (field larger than",
        ),
        ("path,words\na,x\nb\n", "t.csv, line 3: must have 2 fields like the header, got 1"),
        ("path,words\na,x\n\nb,\0\n", "t.csv, line 4: holds a NUL byte"),
        ("path,words,path\na,b,c\n", "t.csv: has 2 columns 'path'"),
        ("", "t.csv: has no header"),
        (",,\n1,2,3\n", "t.csv: has no header"),
    ],
)
def test_invalid_csv_raises_naming_the_line(text, message):
    with pytest.raises(CorpusError) as caught:
        parsed(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n\n{"a": \n', "t.jsonl, line 3: is not valid JSON"),
        ('{"a": 1}\n[1]\n', "t.jsonl, line 2: must hold a JSON object, got list"),
        ('{"a": 1, "a": 2}', "t.jsonl, line 1: has the key 'a' twice"),
        ("[" * 100_000, "t.jsonl, line 1: is nested too deeply"),
    ],
)
def test_invalid_json_lines_raise_naming_the_line(text, message):
    with pytest.raises(CorpusError) as caught:
        list(parse_json_lines(text, "t.jsonl"))
    assert message in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_common_encodings_are_read(encoding, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("path;wörter\r\na;größe\r\n".encode(encoding))
    assert read_text(path) == ("path;wörter\r\na;größe\r\n", encoding != "cp1252")
    assert list(read_table(path, ["PATH", "Wörter"])) == [(2, {"PATH": "a", "Wörter": "größe"})]


def test_lines_are_split_at_line_ends_only(tmp_path):
    (tmp_path / "t.txt").write_bytes("a\u2028b\x0bc\r\nd\re\nf\x85g".encode())
    assert read_lines(tmp_path / "t.txt") == ["a\u2028b\x0bc", "d", "e", "f\x85g"]


def test_missing_values_equal_those_of_pandas(tmp_path):
    # `pandas._libs.parsers.STR_NA_VALUES` of pandas 3.1
    pandas = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"]
    pandas += ["N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
    assert set(pandas) <= MISSING_VALUES
    assert MISSING_VALUES - set(pandas) == {"NaT", "none"}
    path = tmp_path / "t.csv"
    path.write_text("".join(f'x,"{value}"\n' for value in ["words", *pandas, "Na", "no"]))
    rows = [row["words"] for _, row in read_table(path, ["x", "words"])]
    assert rows == [""] * len(pandas) + ["Na", "no"]
    assert [row["words"] for _, row in read_table(path, ["words"], missing=())][:-2] == pandas


def test_parse_number_accepts_finite_decimal_numbers_only():
    assert [parse_number(text) for text in ("1", "-2.5", "+.5", "5.", "1e-3")] == [1, -2.5, 0.5, 5, 0.001]
    for text in ("inf", "nan", "1e999", "1_000", "0x10", "1,5", "", "1 2", "--1"):
        with pytest.raises(ValueError, match="is not a finite number"):
            parse_number(text)
