"""The document of an annotation: data, escaping, policy, audio, colours. The browser is in another file."""

import base64
import copy
import itertools
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from emojax.annotation.page import audio_data_uri, render_annotation_page
from emojax.annotation.page.payload import page_payload
from emojax.annotation.page.render import SCRIPTS
from emojax.errors import EmojaxError
from tests.annotation_page_examples import long_annotation, tiny_annotation, write_silence

HOSTILE = (
    "</script><script>document.title='run'</script><img src=x onerror=alert(1)>{{script}}{{data}} \u2028 \udcff &amp;"
)


@pytest.fixture(scope="module")
def example():
    return long_annotation(segments=6, words=5, seconds=30.0)


class Page(HTMLParser):
    """Attributes of every element by tag, and the text of scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.open = [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open = dict(attributes).get("id") or tag if tag in ("script", "style") else None
        if self.open:
            self.texts.append((self.open, ""))

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open:
            self.texts[-1] = (self.open, self.texts[-1][1] + data)


def data_of(html):
    return json.loads(dict(Page(html).texts)["data"])


def test_data_are_the_columns_of_the_annotation(example):
    data = data_of(render_annotation_page(example, "interview.wav"))
    columns, segments = data["segments"], example["segments"]
    assert columns["start"] == [round(1000 * segment["start"]) for segment in segments]
    assert [columns["speakers"][i] for i in columns["speaker"]] == [segment["speaker"] for segment in segments]
    assert [data["categories"][i] for i in columns["emotion"]] == [segment["emotion"] for segment in segments]
    for name in example["attributes"]:
        assert columns["values"][name] == [segment[name] for segment in segments]
        assert columns["spread"][name] == [segment["spread"][name] for segment in segments]
        assert data["track"]["values"][name] == example["track"][name]
    assert columns["words"] == [[word["word"] for word in segment["words"]] for segment in segments]
    starts = [
        segment["start"] + time / 1000
        for segment, times in zip(segments, columns["times"], strict=True)
        for time in times
    ]
    assert starts == pytest.approx(
        [word[key] for segment in segments for word in segment["words"] for key in ("start", "end")], abs=1e-3
    )
    peaks = list(base64.b64decode(data["waveform"]["peaks"]))
    assert peaks == [round(255 * peak) for peak in example["waveform"]["peaks"]]


def test_text_of_data_never_becomes_markup(example):
    hostile = copy.deepcopy(example)
    hostile["file"] = hostile["model"]["name"] = HOSTILE
    hostile["categories"].append(HOSTILE)
    hostile["segments"][0] |= {
        "emotion": HOSTILE,
        "speaker": HOSTILE,
        "transcript": HOSTILE,
        "words": [{"word": HOSTILE, "start": 1, "end": 2}],
    }
    plain, page = (Page(render_annotation_page(tree, "a.wav")) for tree in (example, hostile))
    assert page.elements == plain.elements
    assert [text for name, text in page.texts if name != "data"] == [
        text for name, text in plain.texts if name != "data"
    ]
    html = render_annotation_page(hostile, HOSTILE.replace("\u2028", ""))
    assert data_of(html)["segments"]["text"][0] == HOSTILE
    html.encode()  # lone surrogates are escaped


def test_policy_allows_the_scripts_of_the_page_alone(example):
    page = Page(render_annotation_page(example, "a.wav"))
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", rules["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", rules["style-src"])
    assert rules["media-src"] == "'self' file: data: blob:"
    for _, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "style")}


def test_scripts_insert_text_only():
    folder = files("emojax.annotation.page")
    found = {path.name for path in folder.iterdir() if path.name.endswith(".js")}
    assert found == set(SCRIPTS)
    for name in SCRIPTS:
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|fetch\(|https?:", text
        ), name
        assert "</script" not in text
        assert "<!--" not in text


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        ("interview.wav", "./interview.wav"),
        ("../a b/100 %#?.mp3", "./../a%20b/100%20%25%23%3F.mp3"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29"),
        ("https://example.org/a.wav", "./https%3A//example.org/a.wav"),
        ("data:text/html,x", "./data%3Atext/html%2Cx"),
        ("/data/ü.wav", "/data/%C3%BC.wav"),
        ("\udcff.wav", "./%FF.wav"),
        ("data:audio/wav;base64,UklGRg==", "data:audio/wav;base64,UklGRg=="),
    ],
)
def test_audio_is_a_path_or_embedded_audio(source, reference):
    assert data_of(render_annotation_page(tiny_annotation(), source))["audio"] == reference


def test_short_audio_is_embedded(tmp_path, monkeypatch):
    write_silence(tmp_path / "a.WAV", 0.01)
    kind, content = audio_data_uri(tmp_path / "a.WAV").split(",")
    assert kind == "data:audio/wav;base64"
    assert base64.b64decode(content) == (tmp_path / "a.WAV").read_bytes()
    monkeypatch.setattr("emojax.annotation.page.render.MAX_EMBEDDED_BYTES", 100)
    with pytest.raises(EmojaxError, match=r"a\.WAV: must be <= 0 MB to be embedded, got 0 MB"):
        audio_data_uri(tmp_path / "a.WAV")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(EmojaxError, match=r"a\.csv: cannot be embedded"):
        audio_data_uri(tmp_path / "a.csv")
    with pytest.raises(EmojaxError, match=r"b\.wav: cannot be read"):
        audio_data_uri(tmp_path / "b.wav")


def test_an_annotation_without_anything_optional_is_rendered():
    data = data_of(render_annotation_page(tiny_annotation(), "beep.wav"))
    assert (data["track"], data["waveform"], data["segments"]["start"]) == (None, None, [])
    bare = tiny_annotation()
    del bare["track"], bare["waveform"], bare["counts"], bare["speech"], bare["file"]
    assert data_of(render_annotation_page(bare, "beep.wav"))["duration"] == 2000


def test_segments_without_values_are_null_and_sorted(example):
    tree = copy.deepcopy(example)
    tree["segments"][2] = {"start": 0.0, "end": 1.0, "speaker": None, "emotion": None, "words": None}
    columns = page_payload(tree)["segments"]
    assert columns["start"] == sorted(columns["start"])
    assert columns["start"][0] == 0
    assert (columns["speaker"][0], columns["emotion"][0], columns["text"][0], columns["words"][0]) == (-1, -1, None, [])
    assert columns["values"]["valence"][0] is columns["spread"]["valence"][0] is None


@pytest.mark.parametrize(
    ("transcript", "words", "shown"),
    [
        ("So, I said.", ["So,", "I", "said."], "So, I said."),
        ("今日は", ["今日", "は"], "今日は"),
        ("other text", ["so", "I"], "so I"),
        (None, [" so", "", "I "], "so I"),
    ],
)
def test_words_can_be_marked_in_the_text(example, transcript, words, shown):
    tree = copy.deepcopy(example)
    listed = [{"word": word, "start": 1.0, "end": 1.5} for word in words]
    tree["segments"] = [{"start": 1, "end": 2, "transcript": transcript, "words": listed}]
    columns = page_payload(tree)["segments"]
    assert columns["text"] == [shown]
    assert columns["words"] == [[word.strip() for word in words if word.strip()]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"`format` and `version` must be 'emojax annotation', 1, got 'emojax annotation', 2"),
        ({"duration": float("nan")}, r"`duration` must be a finite number, got nan"),
        ({"duration": None}, r"`duration` must be a finite number, got None"),
        ({"model": {"scale": [1, 1]}}, r"`model.scale` must be a lower and a higher number, got \[1, 1\]"),
        ({"model": None}, r"`model` must be an object, got None"),
        ({"segments": [3]}, r"`segments` must be a list of Mapping"),
        ({"segments": [{"start": "0", "end": 1}]}, r"`start` must be a finite number, got '0'"),
        ({"segments": [{"start": 0, "end": 1, "emotion": "joy"}]}, r"`emotion` must be one of \[\], got 'joy'"),
        (
            {"track": {"window": 1, "hop": 1, "times": [1], "valence": []}},
            r"`track.valence` must have 1 values .* got 0",
        ),
    ],
)
def test_invalid_annotations_are_errors(change, message):
    with pytest.raises(EmojaxError, match=message):
        render_annotation_page(tiny_annotation() | change, "a.wav")
    with pytest.raises(EmojaxError, match="`audio_source` must be a path or a data URI"):
        render_annotation_page(tiny_annotation(), "")


# Colours: light and dark values of the style.

COLOURS = re.findall(
    r"--([\w-]+): light-dark\(#(\w{6}), #(\w{6})\)",
    (files("emojax.annotation.page") / "base.css").read_text(encoding="utf-8"),
)
LIGHT, DARK = ({name: pair[i] for name, *pair in COLOURS} for i in (0, 1))
TOKENS = ("anger", "happiness", "sadness", "fear", "disgust", "surprise", "contempt", "boredom", "other", "neutral")
ATTRIBUTE_TOKENS = ("activation", "valence", "dominance")

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(rgb):
    """Ottosson (2020): coordinates whose distances are about equally visible; here from 0 to 100."""
    to_cones = [
        [0.41222147, 0.53633254, 0.05144599],
        [0.21190350, 0.68069955, 0.10739696],
        [0.08830246, 0.28171884, 0.62997870],
    ]
    to_lab = [
        [0.21045426, 0.79361779, -0.00407205],
        [1.97799850, -2.42859221, 0.45059371],
        [0.02590404, 0.78277177, -0.80867577],
    ]
    return 100 * np.array(to_lab) @ np.cbrt(np.array(to_cones) @ np.clip(rgb, 0, 1))


def linear(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def contrast(first, second):
    """WCAG 2.2, relative luminance and contrast ratio."""
    high, low = sorted(
        (sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(x), strict=True)) for x in (first, second)),
        reverse=True,
    )
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_graphics_have_the_contrast_of_wcag_aa(theme):
    for text in ("ink", "soft", "accent", "activation", "valence", "dominance"):
        for ground in ("card", "page") if text in ("ink", "soft") else ("card",):
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    for ground in ("now", "hover"):
        assert contrast(theme["ink"], theme[ground]) >= 4.5
        assert contrast(theme["accent"], theme[ground]) >= 4.5
    assert contrast(theme["on-accent"], theme["accent"]) >= 4.5
    assert contrast("1b1f24", theme["word"]) >= 4.5
    for graphic in ("cursor", "wave", *TOKENS):
        assert contrast(theme[graphic], theme["card"]) >= 3, graphic


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_for_colour_blind_readers(theme, vision):
    least = 5 if vision == "tritanopia" else 7
    for tokens in (TOKENS, ATTRIBUTE_TOKENS, ("low", "middle", "high")):
        points = {token: oklab(np.array(VISION[vision]) @ linear(theme[token])) for token in tokens}
        for first, second in itertools.combinations(tokens, 2):
            assert np.linalg.norm(points[first] - points[second]) >= least, (first, second)
