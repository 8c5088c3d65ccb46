"""Conversion of files and arrays to mono 16 kHz float32, and errors."""

import numpy as np
import pytest
import soundfile

from emojax.audio import read_audio, to_mono_16khz
from emojax.errors import AudioError


def _tone(rate, hz=440.0, level=0.5, seconds=1.0):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize(
    ("extension", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 0.02),
        ("wav", "PCM_16", 1e-3),
        ("wav", "PCM_24", 1e-3),
        ("wav", "PCM_32", 1e-3),
        ("wav", "FLOAT", 1e-3),
        ("flac", "PCM_16", 1e-3),
    ],
)
def test_tone_is_equal_for_all_lossless_formats(tmp_path, rate, extension, subtype, tolerance):
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, np.stack([_tone(rate), _tone(rate)], axis=1), rate, subtype=subtype)
    waveform = read_audio(path)
    assert waveform.dtype == np.float32
    assert waveform.shape == (16000,)
    middle = slice(1000, 15000)  # The resampler rings at the ends.
    np.testing.assert_allclose(waveform[middle], _tone(16000)[middle], atol=tolerance)


@pytest.mark.parametrize(("extension", "subtype"), [("ogg", "OPUS"), ("ogg", "VORBIS"), ("mp3", None)])
def test_lossy_formats_keep_pitch_and_level(tmp_path, extension, subtype):
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, _tone(16000), 16000, subtype=subtype)
    waveform = read_audio(path)
    assert waveform.shape == (16000,)
    spectrum = np.abs(np.fft.rfft(waveform))
    assert spectrum.argmax() == 440
    assert waveform.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_resampling_leaves_no_alias(tmp_path):
    path = tmp_path / "high.wav"
    soundfile.write(path, _tone(48000, hz=12000.0), 48000, subtype="FLOAT")
    assert np.abs(read_audio(path)[1000:-1000]).max() < 1e-4


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([_tone(16000), np.zeros(16000, np.float32)], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), _tone(16000) / 2, atol=1e-6)


def test_files_without_audio_raise_naming_the_file(tmp_path):
    empty, text, folder = tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "folder.wav"
    zero_bytes, cut = tmp_path / "zero.mp3", tmp_path / "cut.flac"
    soundfile.write(empty, np.zeros(0, np.float32), 16000)
    text.write_text("not audio")
    folder.mkdir()
    zero_bytes.touch()
    soundfile.write(cut, np.random.default_rng(0).normal(size=16000) * 0.1, 16000)
    cut.write_bytes(cut.read_bytes()[:9000])
    for path in (empty, text, folder, zero_bytes, cut, tmp_path / "absent.wav", tmp_path / "headerless.raw"):
        if path.suffix == ".raw":
            path.write_bytes(b"1234")
        with pytest.raises(AudioError) as caught:
            read_audio(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e19, -1001.0, 1e300])
def test_file_with_non_finite_or_too_large_sample_raises(tmp_path, bad):
    path = tmp_path / "bad.wav"
    samples = _tone(16000).astype(np.float64)
    samples[123] = bad
    soundfile.write(path, samples, 16000, subtype="DOUBLE")
    with pytest.raises(AudioError, match=r"bad\.wav: sample 123 must be finite"):
        read_audio(path)


@pytest.mark.parametrize(
    ("dtype", "zero", "full_scale"), [("uint8", 128, 2**7), ("int8", 0, 2**7), ("int16", 0, 2**15), ("int32", 0, 2**31)]
)
def test_integer_arrays_are_scaled_by_full_scale(dtype, zero, full_scale):
    array = np.array([zero, zero - full_scale, zero + full_scale // 2], np.int64).astype(dtype)
    np.testing.assert_array_equal(to_mono_16khz(array, 16000), np.array([0.0, -1.0, 0.5], np.float32))


def test_floating_point_arrays_are_not_scaled():
    for dtype in (np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(to_mono_16khz(np.array([0.5, -2.0], dtype), 16000), [0.5, -2.0])


def test_channels_first_arrays_are_accepted_if_unambiguous():
    stereo = np.stack([_tone(8000), -_tone(8000) / 2], axis=1)
    time_first = to_mono_16khz(stereo, 8000)
    np.testing.assert_array_equal(time_first, to_mono_16khz(stereo.T, 8000))
    assert time_first.shape == (16000,)


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (np.zeros((2, 3, 4), np.float32), 16000, "shape"),
        (np.zeros((), np.float32), 16000, "shape"),
        (np.zeros((100, 100), np.float32), 16000, "channels"),
        (np.zeros(0, np.float32), 16000, "no samples"),
        (np.zeros((0, 2), np.int16), 16000, "no samples"),
        (np.zeros(9, np.float32), 0, "rate"),
        (np.zeros(9, np.float32), -8000, "rate"),
        (np.zeros(9, np.float32), float("nan"), "rate"),
        (np.zeros(9, np.int64), 16000, "int64"),
        (np.zeros(9, bool), 16000, "bool"),
        (np.zeros(9, complex), 16000, "complex"),
        (np.full(9, 1e300), 16000, r"sample 0 must be finite and at most 1000 .*, got 1e\+300"),
        (np.full((9, 2), 1e19, np.float32), 16000, r"sample 0 .*got 1e\+19"),
        (np.array([0.5, 20_000.0]), 16000, r"sample 1 .*pass integers as int16.*got 20000"),
        (np.array([0.5, -np.inf], np.float16), 16000, r"sample 1 .*got -inf"),
        (np.zeros(1, np.float32), 48000, "shorter"),
    ],
)
def test_invalid_arrays_raise_naming_the_item(array, rate, message):
    with pytest.raises(AudioError, match=f"clip 7: .*{message}"):
        to_mono_16khz(array, rate, name="clip 7")
