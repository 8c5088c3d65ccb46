"""Text formats of annotations against independent readers and writers, with awkward texts and times."""

import csv
import dataclasses
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from emojax.annotation.annotation import Annotation, read_annotation, write_annotation
from emojax.annotation.captions import (
    COLUMNS,
    caption_lines,
    one_line,
    to_audacity,
    to_csv,
    to_rttm,
    to_srt,
    to_webvtt,
)
from emojax.annotation.speakers import read_rttm
from emojax.annotation.tiers import disjoint, tiers_of, to_elan, to_textgrid
from emojax.errors import EmojaxError
from emojax.evaluation.predictions import read_cell
from emojax.recognition.transcript import Word
from tests.annotation_examples import PLAIN, annotations, make_annotation, make_segment

REASON = "pip install {}: an independent implementation of the format"
EXAMPLE = make_annotation(
    [
        make_segment(0.5, 2.25, "A", "so I said", (Word("so", 0.5, 0.9, 0.9), Word("I", 0.9, 0.9, 0.8))),
        make_segment(3.0, 3661.5, None, '=1+"x" <b> & --> \n\t', ()),
    ],
    duration=3700.0,
)
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@given(annotations())
def test_json_reads_back(annotation):
    tree = annotation.to_tree()
    assert Annotation.from_tree(tree).to_tree() == tree
    assert set(tree) >= {"format", "version", "file", "duration", "model", "attributes", "categories", "speech"}
    assert set(tree) >= {"segments", "track", "waveform", "counts"}


def test_json_has_the_stated_fields(tmp_path):
    path = tmp_path / "talk.json"
    write_annotation(path, EXAMPLE.to_tree())
    found = read_annotation(path)
    assert found.to_tree() == EXAMPLE.to_tree()
    tree = found.to_tree()
    assert tree["segments"][0] == {
        "start": 0.5,
        "end": 2.25,
        "speaker": "A",
        "activation": 4.25,
        "valence": 3.125,
        "dominance": 4.0,
        "spread": None,
        "emotion": "anger",
        "probabilities": {"anger": 0.75, "joy": 0.25},
        "transcript": "so I said",
        "words": [
            {"word": "so", "start": 0.5, "end": 0.9, "probability": 0.9},
            {"word": "I", "start": 0.9, "end": 0.9, "probability": 0.8},
        ],
    }
    assert tree["track"]["activation"][0] is None
    assert tree["track"]["times"][:2] == [1.5, 2.0]
    assert tree["waveform"]["hop"] == 0.02
    assert tree["counts"] == {"segments": 2, "speech_seconds": 3660.25, "skipped": 0}
    np.testing.assert_array_equal(found.peaks, EXAMPLE.peaks)


def test_other_json_is_an_error_of_one_line(tmp_path):
    path = tmp_path / "talk.json"
    path.write_text("{}")
    with pytest.raises(EmojaxError, match=r"talk.json: must be an emojax annotation of version 1"):
        read_annotation(path)
    path.write_text('{"format": "emojax annotation", "version": 1}')
    with pytest.raises(EmojaxError, match=r"talk.json: is not a complete emojax annotation \(KeyError: 'attributes'"):
        read_annotation(path)


@given(annotations())
def test_the_table_has_a_row_per_segment(annotation):
    rows = list(csv.DictReader(io.StringIO(to_csv(annotation, "=talk.wav"))))
    assert [float(row["start"]) for row in rows] == [each.start for each in annotation.segments]
    for row, segment in zip(rows, annotation.segments, strict=True):
        assert tuple(row) == COLUMNS
        assert row["file"] == "'=talk.wav"
        assert read_cell(row["transcript"]) == one_line(segment.transcript or "")
        assert float(row["valence"]) == segment.attributes["valence"]


def test_audformat_reads_the_table():
    audformat = pytest.importorskip("audformat", reason=REASON.format("audformat"))
    import pandas

    found = audformat.utils.read_csv(io.StringIO(to_csv(EXAMPLE, "talk.wav")), as_dataframe=True)
    assert audformat.is_segmented_index(found)
    assert list(found.columns) == list(COLUMNS[3:])
    starts, ends = (found.index.get_level_values(name) for name in ("start", "end"))
    assert list(starts) == list(pandas.to_timedelta([0.5, 3.0], unit="s"))
    assert list(ends) == list(pandas.to_timedelta([2.25, 3661.5], unit="s"))
    assert found["activation"].tolist() == [4.25, 4.25]


@few
@given(annotations())
def test_rttm_reads_back(tmp_path, annotation):
    path = tmp_path / "talk.rttm"
    path.write_text(to_rttm(annotation, "talk"), encoding="utf-8")
    turns = read_rttm([path])
    for segment in annotation.segments:
        speaker = "_".join((segment.speaker or "").split()) or "unknown"
        assert turns["talk"].speaker(segment.start, segment.end) == speaker


def test_rttm_is_that_of_pyannote(tmp_path):
    core = pytest.importorskip("pyannote.core", reason=REASON.format("pyannote-core"))
    other = core.Annotation(uri="talk")
    other[core.Segment(0.5, 2.25)] = "A"
    other[core.Segment(3.0, 3661.5)] = "unknown"
    assert to_rttm(EXAMPLE, "talk").split() == other.to_rttm().split()
    (tmp_path / "other.rttm").write_text(other.to_rttm())
    assert read_rttm([tmp_path / "other.rttm"])["talk"].speaker(0.0, 3.1) == "A"


@few
@given(annotations())
def test_webvtt_and_srt_are_read_by_webvtt_py(tmp_path, annotation):
    webvtt = pytest.importorskip("webvtt", reason=REASON.format("webvtt-py"))
    vtt, srt = tmp_path / "talk.vtt", tmp_path / "talk.srt"
    vtt.write_text(to_webvtt(annotation), encoding="utf-8")
    srt.write_text(to_srt(annotation), encoding="utf-8")
    expected = [(each.start, each.end) for each in annotation.segments]
    cues = list(webvtt.read(str(vtt)))
    assert [(cue.start_in_seconds, cue.end_in_seconds) for cue in cues] == [(int(a), int(b)) for a, b in expected]
    for cue, segment in zip(cues, annotation.segments, strict=True):
        escaped = "\n".join(caption_lines(segment)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert cue.raw_text.removesuffix("</v>").endswith(escaped)
        assert cue.voice is None or segment.speaker is not None
    if annotation.segments:
        assert len(list(webvtt.from_srt(str(srt)))) == len(expected)


@pytest.mark.parametrize("speaker", ["--", "a--", "--->", "-", "->"])
def test_no_speaker_or_text_makes_an_arrow_inside_a_cue(speaker):
    segment = dataclasses.replace(EXAMPLE.segments[0], speaker=speaker, transcript=f"so {speaker}> ----> it is")
    annotation = dataclasses.replace(EXAMPLE, segments=(segment,))
    for text in (to_webvtt(annotation), to_srt(annotation)):
        assert text.count("-->") == 1  # the times


def test_captions_have_transcript_prediction_and_speaker():
    prediction = "anger, activation 4.25, valence 3.12, dominance 4.00"
    cue = f"00:00:00.500 --> 00:00:02.250\n<v A>so I said\n{prediction}</v>\n"
    assert to_webvtt(EXAMPLE).startswith(f"WEBVTT\n\n{cue}")
    assert "00:00:03,000 --> 01:01:01,500\n" in to_srt(EXAMPLE)
    assert "\nA: so I said\n" in to_srt(EXAMPLE)
    assert '=1+"x" &lt;b&gt; &amp; -&gt;\n' in to_webvtt(EXAMPLE)
    label = to_audacity(EXAMPLE).splitlines()[0]
    assert label.split("\t") == ["0.500000", "2.250000", f"A: so I said | {prediction}"]


def test_a_model_without_categories_has_no_emotion():
    plain = make_annotation([make_segment(0.0, 1.0, categories=False)], description=PLAIN)
    assert plain.to_tree()["segments"][0]["emotion"] is None
    assert plain.to_tree()["segments"][0]["probabilities"] is None
    assert next(csv.DictReader(io.StringIO(to_csv(plain, "f"))))["emotion"] == ""
    assert set(tiers_of(plain)) == {"activation", "valence", "dominance"}
    assert "activation 4.25" in to_srt(plain)


@given(annotations())
def test_intervals_do_not_overlap_and_keep_every_text(annotation):
    for name, intervals in tiers_of(annotation).items():
        edges = [edge for interval in intervals for edge in interval[:2]]
        assert edges == sorted(edges), name
        assert all(start < end for start, end, _ in intervals)
    words = " ".join(filter(None, (one_line(word.text) for each in annotation.segments for word in each.words)))
    assert " ".join(interval.text for interval in tiers_of(annotation).get("words", [])) == words


def test_words_without_a_length_are_joined_to_the_one_before():
    assert disjoint([(0.1, 0.1, "a"), (0.1, 0.3, "b"), (0.2, 0.3, "c"), (0.3, 0.3, "")], 1000) == [
        (100, 101, "a"),
        (101, 300, "b c"),
    ]
    assert disjoint([(0.9, 2.0, "a"), (1.5, 2.0, "b")], 1000) == [(900, 1000, "a b")]
    assert disjoint([(0.0, 1.0, "a")], 0) == []


@few
@given(annotations())
def test_textgrid_is_read_by_praatio(tmp_path, annotation):
    pytest.importorskip("praatio", reason=REASON.format("praatio"))
    from praatio import textgrid

    path = tmp_path / "talk.TextGrid"
    path.write_text(to_textgrid(annotation), encoding="utf-8")
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    tiers = tiers_of(annotation)
    assert grid.maxTimestamp == 61.0
    assert grid.tierNames == (tuple(tiers) or ("transcript",))
    for name, intervals in tiers.items():
        found = [(entry.start, entry.end, entry.label) for entry in grid.getTier(name).entries]
        assert found == [(start / 1000, end / 1000, text) for start, end, text in intervals]


@few
@given(annotations())
def test_elan_is_read_by_pympi(tmp_path, annotation):
    pympi = pytest.importorskip("pympi", reason=REASON.format("pympi-ling"))
    path = tmp_path / "talk.eaf"
    path.write_text(to_elan(annotation, "talk%20'1'.wav"), encoding="utf-8")
    document = pympi.Elan.Eaf(str(path))
    tiers = tiers_of(annotation)
    assert list(document.get_tier_names()) == list(tiers)
    assert document.media_descriptors[0]["MEDIA_URL"] == "talk%20'1'.wav"
    for name, intervals in tiers.items():
        found = [tuple(each[:3]) for each in document.get_annotation_data_for_tier(name)]
        assert sorted(found) == sorted(tuple(interval) for interval in intervals)


@given(annotations())
def test_elan_is_well_formed(annotation):
    root = ElementTree.fromstring(to_elan(annotation, "a&b.wav"))
    assert root.find("HEADER/MEDIA_DESCRIPTOR").get("MEDIA_URL") == "a&b.wav"
    ids = {slot.get("TIME_SLOT_ID") for slot in root.iter("TIME_SLOT")}
    for each in root.iter("ALIGNABLE_ANNOTATION"):
        assert {each.get("TIME_SLOT_REF1"), each.get("TIME_SLOT_REF2")} <= ids
