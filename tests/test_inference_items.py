"""Inputs of `predict`: what cannot be used is an error of one line that names the item."""

import io
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from emojax.errors import AudioError, CorpusError
from emojax.inference.items import as_list, as_transcripts, item_name, read_item

RATE = 16_000
CLIP = np.random.default_rng(0).normal(0, 0.1, 4_000).astype(np.float32)
MASKED = np.ma.masked_array(CLIP, CLIP > 0)


def read(items, rate=None, min_samples=1):
    listed, single = as_list(items, rate)
    waveforms = [read_item(item, item_name(item, number), min_samples) for number, item in enumerate(listed)]
    return waveforms[0] if single else waveforms


@pytest.fixture
def path(tmp_path):
    soundfile.write(tmp_path / "clip.wav", CLIP, RATE, subtype="FLOAT")
    return tmp_path / "clip.wav"


def read_only():
    copied = CLIP.copy()
    copied.flags.writeable = False
    return copied


@pytest.mark.parametrize(
    "rate", [16_000, 16_000.0, np.int64(16_000), np.float32(16_000), np.uint16(16_000)], ids=lambda rate: type(rate)
)
def test_rates_are_any_number(rate):
    np.testing.assert_array_equal(read(CLIP, rate), CLIP)
    np.testing.assert_array_equal(read((CLIP, rate)), CLIP)


@pytest.mark.parametrize(
    "rate",
    [None, 0, -16_000, 16, 44.1, np.nan, np.inf, 1e300, 10**400, True, "16000", [16_000], 1j, CLIP],
    ids=lambda rate: str(rate)[:9],
)
def test_a_wrong_sample_rate_is_an_error_that_names_the_item(rate):
    with pytest.raises(
        AudioError, match=r"^item 0: sample rate (must be a number \(Hz\).*|must be 100 to 10,000,000 Hz, got .*)$"
    ):
        read((CLIP, rate))
    with pytest.raises(AudioError, match=r"^item 1: sample rate"):
        read([(CLIP, RATE), (CLIP, rate)])
    if rate is not None:
        with pytest.raises(AudioError, match=r"^item 0: sample rate"):
            read(CLIP, rate)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (read_only(), CLIP),
        (jnp.asarray(CLIP), CLIP),
        (CLIP.astype(np.float64), CLIP),
        (np.stack([CLIP, CLIP]), CLIP),
        (np.stack([CLIP, CLIP], axis=1), CLIP),
        (np.array([2**14, -(2**15)], np.int16), np.array([0.5, -1], np.float32)),
        (np.ma.masked_array(CLIP), CLIP),
        (CLIP[::-1], CLIP[::-1]),
    ],
)
def test_arrays_of_any_kind(array, expected):
    np.testing.assert_array_equal(read(array, RATE), expected)
    np.testing.assert_array_equal(read([(array, RATE)])[0], expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (CLIP > 0, "dtype must be .* or floating point, got bool"),
        (CLIP.astype(complex), "dtype must be .* or floating point, got complex128"),
        (CLIP.astype(object), "dtype must be .* or floating point, got object"),
        (np.array(["clip.wav"]), "dtype must be .* or floating point, got <U8"),
        (np.zeros((2, 3, 4), np.float32), r"shape must be .*, got \(2, 3, 4\)"),
        (np.zeros((), np.float32), r"shape must be .*, got \(\)"),
        (np.zeros(0, np.float32), "has no samples"),
        (np.array([0, np.nan], np.float32), r"sample 1 must be finite .*, got nan"),
        (MASKED, "has masked samples"),
    ],
)
def test_arrays_that_are_no_waveform_are_named(array, message):
    with pytest.raises(AudioError, match=f"^item 0: {message}"):
        read(array, RATE)
    with pytest.raises(AudioError, match=f"^item 1: {message}"):
        read([(CLIP, RATE), (array, RATE)])


def test_paths_are_read_one_or_several(path):
    for item in (path, str(path), np.str_(path)):
        np.testing.assert_array_equal(read(item), CLIP)
    np.testing.assert_array_equal(read([path, (CLIP, RATE)]), [CLIP] * 2)
    np.testing.assert_array_equal(read((str(path), path)), [CLIP] * 2)  # a tuple of two, and no pair
    assert read([]) == read(()) == []


@pytest.mark.parametrize(
    "item",
    [None, 3, 0.5, b"RIFF", {"a": 1}, {"clip.wav"}, iter(["clip.wav"]), object(), np.float32(1), [0.1, 0.2], []],
    ids=lambda item: type(item).__name__,
)
def test_an_item_that_is_neither_path_nor_file_nor_pair_is_an_error(item):
    allowed = r"must be a path, a binary file, or an \(array, rate\) pair"
    for items, name in ((item, "items"), ([(CLIP, RATE), item], "item 1"), ((item, RATE), "item 0")):
        if items is item and isinstance(item, list):
            continue  # a list of items
        with pytest.raises(
            AudioError, match=f"^{name} {allowed}.*, got (None|an object of type {type(item).__name__})"
        ):
            read(items)


def test_arrays_without_rates_and_rates_without_arrays_are_errors():
    with pytest.raises(AudioError, match=r"^an array needs its sample rate: predict\(array, rate\)$"):
        read(CLIP)
    with pytest.raises(AudioError, match=r"^item 1 must be a path.*, got an array without its sample rate$"):
        read([(CLIP, RATE), CLIP])
    for items in ([CLIP, CLIP], "clip.wav", pathlib.Path("clip.wav"), io.BytesIO(), (CLIP, RATE), [], None):
        with pytest.raises(AudioError, match=r"^rate belongs to one array, got items .*; use \(array, rate\) pairs$"):
            read(items, RATE)
    with pytest.raises(AudioError, match=r"^item 0 must be .*, got an object of type float$"):
        read([0.1, 0.2])
    with pytest.raises(AudioError, match=r"^item 0 must be .*, got an object of type str and a rate$"):
        read(("clip.wav", RATE))
    with pytest.raises(AudioError, match=r"^item 0 must be .*, got a file opened as text$"):
        read([io.StringIO("clip")])


def test_files_that_cannot_be_read_are_named(path, tmp_path):
    (tmp_path / "text.wav").write_text("not audio")
    for item, message in (
        (tmp_path / "none.wav", "none.wav: no such file"),
        (tmp_path / "text.wav", "text.wav: cannot be read as audio"),
        (tmp_path, "got a directory"),
    ):
        with pytest.raises(AudioError, match=message):
            read([path, item])


def test_an_item_without_a_single_frame_is_named(path):
    assert len(read(path, min_samples=4_000)) == 4_000
    message = r"must have at least 4001 samples at 16 kHz \(250.062 ms, one frame of this model\), got 4000"
    with pytest.raises(AudioError, match=f"^item 1: {message}"):
        read([(np.tile(CLIP, 2), RATE), (CLIP, RATE)], min_samples=4_001)
    with pytest.raises(AudioError, match=f"clip.wav.*: {message}"):
        read([path], min_samples=4_001)
    # Samples are counted after resampling.
    assert len(read((CLIP, 8_000), min_samples=8_000)) == 8_000


def test_transcripts_are_texts_or_none_one_for_each_item():
    assert as_transcripts(None, 2) == ["", ""]
    assert as_transcripts("a b", 1) == ["a b"]
    assert as_transcripts(("a", None), 2) == as_transcripts([np.str_("a"), ""], 2) == ["a", ""]
    for transcripts, message in (
        ([], "^transcripts must be one per item, got 0 for 2 items"),
        ("a b", "^transcripts must be one per item, got 1 for 2 items"),
        (["a", 3.0], "^transcript 1 must be a text or None, got an object of type float"),
        ([b"a", "b"], "^transcript 0 must be a text or None, got an object of type bytes"),
        ({"a", "b"}, "^transcripts must be a text, or a list of texts and None, got an object of type set"),
        (np.array(["a", "b"]), "^transcripts must be .*, got an object of type ndarray"),
        (iter(["a", "b"]), "^transcripts must be .*, got an object of type list_iterator"),
    ):
        with pytest.raises(CorpusError, match=message):
            as_transcripts(transcripts, 2)


def test_binary_files_are_read_one_or_several(path):
    content = path.read_bytes()
    with path.open("rb") as file:
        for item in (io.BytesIO(content), file):
            np.testing.assert_array_equal(read(item), CLIP)
    np.testing.assert_array_equal(read([path, io.BytesIO(content), (CLIP, RATE)]), [CLIP] * 3)
    with pytest.raises(AudioError, match="item 1: "):
        read([path, io.BytesIO(b"not audio")])
