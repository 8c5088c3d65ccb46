"""Decoding of all formats to the sample, regardless of headers, compared with FFmpeg."""

import io
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile

from emojax.audio import decoding, files, read_audio
from emojax.errors import AudioError
from tests.audio_examples import decoded, encoded, speech_like

ID3 = b"ID3\x04\0\0\0\0\x01\0" + bytes(128)
ID3V1 = b"TAG" + bytes(125)


def read(content, name="clip"):
    return read_audio(io.BytesIO(content), name)


def written(samples, rate=16_000, **format):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **format)
    return file.getvalue()


def mp3(seconds, seed=0, **options):
    return encoded("mp3", "libmp3lame", speech_like(seconds, seed=seed), seekable=True, **options)


@pytest.fixture(scope="module")
def untagged():
    """30 s of MP3 with a variable bitrate, written to a pipe, so that nothing states its length."""
    return encoded("mp3", "libmp3lame", speech_like(30), quality=4, write_xing="0", id3v2_version="0")


@pytest.fixture(scope="module")
def two():
    return mp3(2, seed=1), mp3(5, seed=2, quality=4)


def test_mp3_with_variable_bitrate_and_without_xing_tag_is_read_completely(untagged):
    reference = decoded(untagged)
    assert len(reference) > 30 * 16_000
    np.testing.assert_allclose(read(untagged), reference, atol=1e-5)


@pytest.mark.parametrize(
    ("rate", "layout"), [(8_000, "mono"), (22_050, "stereo"), (44_100, "stereo"), (48_000, "mono")]
)
@pytest.mark.parametrize("tagged", ["0", "1"])
def test_mp3_of_every_version_equals_ffmpeg(rate, layout, tagged, monkeypatch):
    content = encoded("mp3", "libmp3lame", speech_like(1, rate), rate, layout, True, write_xing=tagged)
    reference = decoded(content)
    monkeypatch.setattr(files, "SAMPLE_RATE", rate)  # no resampling
    np.testing.assert_allclose(read(content), reference, atol=1e-5)


@pytest.mark.parametrize("between", [b"", ID3V1 + ID3, np.random.default_rng(0).bytes(5_000)])
def test_concatenated_mp3_files_are_read_completely(two, between):
    joined = read(two[0] + between + two[1])
    assert len(joined) == 7 * 16_000
    np.testing.assert_allclose(joined, np.concatenate([read(content) for content in two]), atol=1e-6)


def test_concatenated_mp3_files_without_tags_are_read_completely(two, untagged):
    assert len(read(untagged + two[0])) == len(decoded(untagged)) + 2 * 16_000
    assert len(read(two[0] + untagged)) == len(decoded(untagged)) + 2 * 16_000
    assert len(read(untagged + untagged)) == 2 * len(decoded(untagged))


def test_truncated_mp3_gives_the_remaining_audio(two):
    whole, part = read(two[1]), read(two[1][: len(two[1]) // 2])
    assert 0.3 * len(whole) < len(part) < 0.7 * len(whole)
    np.testing.assert_allclose(part[:-600], whole[: len(part) - 600], atol=1e-5)


@pytest.mark.parametrize(
    ("subtype", "rates"), [("VORBIS", (16_000, 16_000)), ("VORBIS", (16_000, 44_100)), ("OPUS", (48_000, 48_000))]
)
def test_chained_ogg_is_read_completely(subtype, rates):
    first, second = (
        written(speech_like(seconds, rate, seed), rate, format="OGG", subtype=subtype)
        for seconds, rate, seed in zip((2, 3), rates, (1, 2), strict=True)
    )
    chained = read(first + second)
    assert len(chained) == 5 * 16_000
    tolerance = 1e-6 if rates[0] == 16_000 else 5e-2  # links of equal rate are resampled as one signal
    np.testing.assert_allclose(chained, np.concatenate([read(first), read(second)]), atol=tolerance)


def test_opus_pre_skip_is_removed():
    samples = speech_like(2, 48_000)
    content = written(samples, 48_000, format="OGG", subtype="OPUS")
    expected = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    block = next(iter(files.decoded_blocks(io.BytesIO(content), 9.0)))[1][:, 0]
    np.testing.assert_array_equal(block, expected[: len(block)])


def test_flac_from_a_pipe_is_read_completely():
    samples = speech_like(3)
    content = encoded("flac", "flac", samples)
    np.testing.assert_allclose(read(content), samples, atol=1e-4)
    np.testing.assert_allclose(read(content + content), np.tile(read(content), 2), atol=0)


@pytest.mark.parametrize("stated", [0, 10_000, 900_000])
def test_number_of_samples_in_flac_header_is_ignored(stated):
    content = bytearray(encoded("flac", "flac", speech_like(3)))
    content[21] &= 0xF0
    content[22:26] = stated.to_bytes(4, "big")
    assert len(read(bytes(content))) == 3 * 16_000


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_wav_without_size_is_read_to_the_end_of_the_file(size, subtype):
    content = bytearray(written(speech_like(1), format="WAV", subtype=subtype))
    expected = read(bytes(content))
    place = content.index(b"data") + 4
    content[place : place + 4] = size.to_bytes(4, "little")
    np.testing.assert_array_equal(read(bytes(content)), expected)


def test_au_without_size_is_read_to_the_end_of_the_file():
    content = written(speech_like(1), format="AU", subtype="PCM_16")
    np.testing.assert_array_equal(read(content[:8] + bytes(4) + content[12:]), read(content))


def test_wav_without_samples_is_empty_even_if_chunks_follow():
    content = written(np.zeros(0, np.float32), format="WAV", subtype="PCM_16")
    for more in (b"", b"LIST\x04\0\0\0INFO"):
        with pytest.raises(AudioError, match="clip: has no samples"):
            read(content + more)


def test_gsm_wav_has_exact_number_of_samples():
    content = written(speech_like(3, 8_000), 8_000, format="WAV", subtype="GSM610")
    assert len(decoded(content)) == 24_000
    assert len(read(content)) == 48_000


def test_mp3_inside_wav_is_read_completely():
    content = encoded("wav", "libmp3lame", speech_like(10), quality=4)
    np.testing.assert_allclose(read(content), decoded(content), atol=1e-5)


@pytest.mark.parametrize(
    ("container", "codec", "rate", "tolerance"),
    [
        ("ipod", "aac", 16_000, 0.1),
        ("webm", "libopus", 48_000, 0.1),
        ("adts", "aac", 16_000, 0.1),
        ("amr", "libopencore_amrnb", 8_000, 0.3),
        ("asf", "wmav2", 16_000, 0.2),
        ("ipod", "alac", 16_000, 1e-4),
    ],
)
def test_formats_of_browsers_and_phones_are_read_with_pyav(container, codec, rate, tolerance):
    content = encoded(container, codec, speech_like(2, rate), rate, seekable=True)
    found, reference = read(content), decoded(content)
    assert len(found) == pytest.approx(len(reference) * 16_000 / rate, abs=1)
    if rate == 16_000:
        np.testing.assert_allclose(found, reference, atol=1e-6)
    assert abs(len(found) - 32_000) < 2_100  # encoders add up to a frame or two
    assert found.std() == pytest.approx(speech_like(2).std(), rel=tolerance)


@pytest.mark.parametrize(
    ("container", "codec", "called"),
    [
        ("ipod", "aac", "m4a"),
        ("webm", "libopus", "webm"),
        ("adts", "aac", "AAC"),
        ("amr", "libopencore_amrnb", "AMR"),
        ("asf", "wmav2", "wma"),
    ],
)
def test_error_names_pyav_if_it_is_missing(container, codec, called, monkeypatch):
    rate = {"libopencore_amrnb": 8_000, "libopus": 48_000}.get(codec, 16_000)
    content = encoded(container, codec, speech_like(0.5, rate), rate, seekable=True)
    monkeypatch.setattr(decoding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AudioError, match=rf"clip: .*{called}.* needs PyAV, .*\(pip install av\)"):
        read(content)


def test_playlists_do_not_open_other_files(tmp_path):
    (tmp_path / "other.aac").write_bytes(encoded("adts", "aac", speech_like(1)))
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}/other.aac\n#EXT-X-ENDLIST\n"
    for name, text in (("list.m3u8", playlist), ("list.ffconcat", "ffconcat version 1.0\nfile {0}/other.aac\n")):
        (tmp_path / name).write_text(text.format(tmp_path))
        with pytest.raises(AudioError, match=f"{name}: cannot be read as audio"):
            read_audio(tmp_path / name)


def small_files():
    samples = speech_like(0.4)
    yield "wav", written(samples, format="WAV", subtype="PCM_16")
    yield "gsm", written(samples[::2], 8_000, format="WAV", subtype="GSM610")
    yield "flac", encoded("flac", "flac", samples)
    yield "ogg", written(samples, format="OGG", subtype="VORBIS") * 2
    yield "mp3", mp3(0.4) * 2
    yield "m4a", encoded("ipod", "aac", samples, seekable=True)


FILES = dict(small_files())


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(
    kind=st.sampled_from(sorted(FILES)),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_give_a_waveform_or_a_one_line_error(kind, damage, keep):
    content = bytearray(FILES[kind])
    for place, value in damage:
        # Half of the damage is done to headers.
        content[int(place * (len(content) - 1)) if value % 2 else int(place * 100)] = value
    waveform, message = np.zeros(1, np.float32), "the clip: "
    try:
        waveform = read(bytes(content[: int(keep * len(content))]), name="the clip")
    except AudioError as error:
        message = str(error)
    assert message.startswith("the clip: ")
    assert "\n" not in message
    assert waveform.dtype == np.float32
    assert np.isfinite(waveform).all()


@pytest.mark.parametrize(
    "format", [{"format": "WAV", "subtype": "PCM_16"}, {"format": "OGG", "subtype": "VORBIS"}, {"format": "MP3"}]
)
def test_decoding_is_independent_of_block_size(format, monkeypatch):
    stereo = np.stack([speech_like(1, 44_100), speech_like(1, 44_100, seed=1)], axis=1)
    content = written(stereo, 44_100, **format)
    whole = read(content)
    monkeypatch.setattr("emojax.audio.decoding.BLOCK_VALUES", 1_000)
    np.testing.assert_allclose(read(content), whole, atol=1e-6)
    monkeypatch.setattr(files, "BLOCK_VALUES", 1_000)
    blocks = files.to_mono_16khz(stereo, 44_100)
    monkeypatch.undo()
    np.testing.assert_array_equal(blocks, files.to_mono_16khz(stereo, 44_100))


def test_decoding_memory_is_bounded_by_the_result():
    content = written(np.zeros((48_000 * 120, 2), np.int16), 48_000, format="FLAC")
    assert len(content) < 100_000
    tracemalloc.start()
    waveform = read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(waveform) == 16_000 * 120
    assert peak < 2 * waveform.nbytes + 12 * 2**20  # the whole file as it is decoded: 6 times the result


def test_file_stating_too_long_a_duration_raises_before_decoding():
    content = bytearray(encoded("flac", "flac", speech_like(1)))
    content[22:26] = (10 * 3600 * 16_000).to_bytes(4, "big")
    with pytest.raises(AudioError, match=r"clip: must have at most 4 hours, got 10.0"):
        read(bytes(content))


@pytest.mark.parametrize(
    "content", [encoded("flac", "flac", speech_like(2)), mp3(1) * 2, FILES["m4a"] * 1], ids=["flac", "mp3", "m4a"]
)
def test_file_longer_than_the_limit_raises(content, monkeypatch):
    monkeypatch.setattr(files, "MAX_SECONDS", 0.36)
    with pytest.raises(AudioError, match=r"clip: must have at most"):
        read(content)


def test_array_longer_than_the_limit_raises():
    with pytest.raises(AudioError, match=r"clip: must have at most 4 hours, got 27.8"):
        files.to_mono_16khz(np.zeros(10_000_000, np.int8), 100, "clip")
    with pytest.raises(AudioError, match=r"sample rate must be 100 to 10,000,000 Hz, got 0.001"):
        files.to_mono_16khz(np.zeros(10, np.int8), 0.001)


def test_file_object_is_read_from_its_position_and_named_in_errors(two, tmp_path):
    (tmp_path / "clip.mp3").write_bytes(two[0])
    expected = read_audio(tmp_path / "clip.mp3")
    with (tmp_path / "clip.mp3").open("rb") as file:
        np.testing.assert_array_equal(read_audio(file), expected)
    archive = io.BytesIO(b"header" + two[0])
    archive.seek(6)
    np.testing.assert_array_equal(read_audio(archive), expected)
    with (tmp_path / "bad.mp3").open("w+b") as file, pytest.raises(AudioError, match=r"bad\.mp3: has no bytes"):
        read_audio(file)
    archive.seek(0, 2)
    with pytest.raises(AudioError, match=r"^item 3: has no bytes after its current position; seek\(0\)"):
        read_audio(archive, "item 3")
    with pytest.raises(AudioError, match=r"^item 3: must be opened in binary mode"):
        read_audio(io.StringIO("text"), "item 3")


def test_unseekable_stream_is_read(two):
    class Download:
        def __init__(self):
            self._content = io.BytesIO(two[0])

        def read(self, size=-1):
            return self._content.read(size)

    np.testing.assert_array_equal(read_audio(Download()), read(two[0]))


def test_failing_file_object_raises():
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 20_000:
                raise ConnectionError("the line went dead")
            return super().read(size)

    for content in (written(speech_like(3), format="WAV"), encoded("flac", "flac", speech_like(3))):
        with pytest.raises(AudioError, match=r"item 3: .*the line went dead"):
            read_audio(Failing(content), "item 3")
