"""Requests of the service: parameters, content types, multipart bodies, limits; anything malformed is a 4xx."""

import asyncio
import io
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile

pytest.importorskip("python_multipart", reason="the packages of requirements-serve.txt are not installed")

from emojax.audio import read_audio, to_mono_16khz
from emojax.errors import ConfigError
from emojax.serve.__main__ import main
from emojax.serve.decoding import Decoders, EncodedAudio, decode_audio
from emojax.serve.problems import Problem
from emojax.serve.settings import ServeConfig, markdown_table, option
from emojax.serve.uploads import Parameters, check_content_type, parse_parameters, parse_upload, receive_body

FILE = Parameters(None, "s16le", False)


def status_of(call, *arguments):
    with pytest.raises(Problem) as caught:
        call(*arguments)
    assert "\n" not in caught.value.detail
    return caught.value.status


def multipart(*parts, boundary="abc"):
    body = b""
    for name, content in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a.wav"\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def wav(samples, rate, subtype="FLOAT", format="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def test_parameters():
    assert parse_parameters([]) == FILE
    given = [("rate", "8000"), ("encoding", "f32le"), ("embedding", "true")]
    assert parse_parameters(given) == Parameters(8000.0, "f32le", True)


@pytest.mark.parametrize(
    "query",
    ["rate=0", "rate=nan", "rate=x", "rate=1e300", "rate=", "encoding=mp3", "embedding=yes", "url=http://a", "file=/a"],
)
def test_invalid_parameters_are_malformed(query):
    assert status_of(parse_parameters, [tuple(query.split("="))]) == 400


def test_a_repeated_parameter_is_malformed():
    assert status_of(parse_parameters, [("rate", "8000"), ("rate", "16000")]) == 400


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("audio/wav", ""),
        ("AUDIO/X-anything; codecs=1", ""),
        ("application/octet-stream", ""),
        ("video/webm", ""),
        ('multipart/form-data; boundary="a b"', "a b"),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=" + 300 * "a", 400),
        ("", 415),
        ("application/json", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_content_types(content_type, expected):
    headers = {"content-type": content_type}
    if isinstance(expected, int):
        assert status_of(check_content_type, headers) == expected
    else:
        assert check_content_type(headers) == expected


def test_a_compressed_body_is_unsupported():
    assert status_of(check_content_type, {"content-type": "audio/wav", "content-encoding": "gzip"}) == 415


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(content=st.binary(min_size=1, max_size=300))
def test_a_file_is_taken_from_a_multipart_body_byte_for_byte(content):
    hypothesis.assume(b"--abc" not in content)
    assert parse_upload(multipart(("file", content)), "abc", FILE) == EncodedAudio(content)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary",
        multipart(("file", b"x"))[:-10],
        multipart(("other", b"x")),
        multipart(("file", b"x"), ("file", b"y")),
        multipart(),
        multipart(("file", b"x"), boundary="other"),
        b"--abc\r\n\r\nx\r\n--abc--\r\n",
    ],
)
def test_other_multipart_bodies_are_malformed(body):
    assert status_of(parse_upload, body, "abc", FILE) == 400


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(
    body=st.binary(max_size=200), inside=st.booleans(), boundary=st.text("abc-é\"'", min_size=1, max_size=5)
)
def test_any_body_is_a_file_or_a_problem(body, inside, boundary):
    if inside:
        body = f"--{boundary}\r\n".encode() + body + f"\r\n--{boundary}--".encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    status = 200
    try:
        assert parse_upload(body, check_content_type(headers), FILE).content
    except Problem as problem:
        status = problem.status
    assert status in (200, 400, 422)


def test_an_empty_body_cannot_be_processed():
    assert status_of(parse_upload, b"", "", FILE) == 422
    assert status_of(parse_upload, multipart(("file", b"")), "abc", FILE) == 422


async def chunks(*parts, seconds=0.0):
    for part in parts:
        await asyncio.sleep(seconds)
        yield part


def receive(parts, headers=None, most=10, seconds=5.0, wait=0.0):
    return asyncio.run(receive_body(chunks(*parts, seconds=wait), headers or {}, most, seconds))


def test_a_body_up_to_the_limit_is_received():
    assert receive([b"12345", b"", b"67890"]) == b"1234567890"
    assert receive([b"12345"], {"content-length": "5"}) == b"12345"


@pytest.mark.parametrize(
    ("parts", "headers", "status"),
    [
        ([b"12345", b"678901"], {}, 413),
        ([b"1"], {"content-length": "11"}, 413),
        ([b"1"], {"content-length": "9" * 40}, 413),
        ([b"1"], {"content-length": "-1"}, 400),
        ([b"1"], {"content-length": "x"}, 400),
    ],
)
def test_larger_bodies_and_invalid_lengths(parts, headers, status):
    assert status_of(receive, parts, headers) == status


def test_a_slow_body_is_given_up():
    with pytest.raises(Problem) as caught:
        receive([b"1"] * 8, wait=0.05, seconds=0.1)
    assert caught.value.status == 408
    assert caught.value.headers == {"Connection": "close"}


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_decoded_audio_is_that_of_predict(rate):
    samples = noise(rate // 2)
    content = wav(np.stack([samples, -0.5 * samples], axis=1), rate)
    np.testing.assert_array_equal(decode_audio(EncodedAudio(content), 10.0), read_audio(io.BytesIO(content)))
    integers = (samples * 2**15).astype("<i2")
    expected = {"s16le": to_mono_16khz(integers, rate), "f32le": to_mono_16khz(samples, rate)}
    for encoding, array in (("s16le", integers), ("f32le", samples)):
        found = decode_audio(EncodedAudio(array.tobytes(), rate, encoding), 10.0)
        np.testing.assert_array_equal(found, expected[encoding])


@pytest.mark.parametrize(
    ("audio", "status"),
    [
        (EncodedAudio(b"RIFF nothing"), 400),
        (EncodedAudio(b"\0" * 1000), 400),
        (EncodedAudio(b"#EXTM3U\nfile:///etc/passwd\n"), 400),
        (EncodedAudio(b"ffconcat version 1.0\nfile /etc/passwd\n"), 400),
        (EncodedAudio(b"123", 16_000.0), 400),
        (EncodedAudio(wav(noise(16_001), 16_000)), 422),
        (EncodedAudio(wav(np.zeros(16_001, np.int16), 16_000, "PCM_16", "FLAC")), 422),
        (EncodedAudio(bytes(32_002), 16_000.0), 422),
        (EncodedAudio(bytes(2_000_000), 100.0), 422),
        (EncodedAudio(np.array([0.0, np.nan], "<f4").tobytes(), 16_000.0, "f32le"), 422),
        (EncodedAudio(wav(np.array([0.0, np.inf]), 16_000)), 422),
        (EncodedAudio(wav(np.zeros(0), 16_000)), 422),
    ],
)
def test_audio_that_cannot_be_predicted(audio, status):
    assert status_of(decode_audio, audio, 1.0) == status


def test_worker_processes_decode_and_are_replaced_after_the_time_limit_or_their_end():
    samples = noise(16_000)
    content = wav(samples, 16_000)

    async def scenario(decoders):
        for _ in range(3):
            np.testing.assert_array_equal(await decoders.decode(EncodedAudio(content)), samples)
        with pytest.raises(Problem, match="cannot be read as audio"):
            await decoders.decode(EncodedAudio(content[:20]))
        assert decoders.replaced == 0
        decoders._seconds = 0.0
        with pytest.raises(Problem, match="cannot be decoded within 0 s") as caught:
            await decoders.decode(EncodedAudio(content))
        assert caught.value.status == 422
        decoders._seconds = 60.0
        np.testing.assert_array_equal(await decoders.decode(EncodedAudio(content)), samples)
        decoders._workers[0].process.kill()
        decoders._workers[0].process.join()
        np.testing.assert_array_equal(await decoders.decode(EncodedAudio(content)), samples)
        assert decoders.replaced == 2
        # A client that has gone does not free the process that decodes its clip.
        gone = asyncio.create_task(decoders.decode(EncodedAudio(content)))
        await asyncio.sleep(0.001)
        gone.cancel()
        found = await asyncio.gather(*(decoders.decode(EncodedAudio(content)) for _ in range(8)))
        assert all(np.array_equal(each, samples) for each in found)

    decoders = Decoders(1, 60.0, 2.0, 1_000_000)
    try:
        asyncio.run(scenario(decoders))
    finally:
        decoders.close()
    assert not any(worker.process.is_alive() for worker in decoders._workers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--queue=0"], "--queue must be >= 1 and <= 100000, got 0"),
        (["--max-seconds=nan"], "--max-seconds must be a finite number, got nan"),
        (["--host= "], "--host must be an address, got ' '"),
        (["--port=70000"], "--port must be >= 0 and <= 65535, got 70000"),
    ],
)
def test_an_invalid_option_is_one_line(arguments, message, capsys, tmp_path):
    assert main([str(tmp_path), *arguments]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_the_document_has_the_options():
    assert markdown_table() in (Path(__file__).parents[1] / "docs" / "serve.md").read_text()


def test_options_have_the_names_of_fields():
    assert option("max_seconds") == "--max-seconds"
    with pytest.raises(ConfigError, match=r"ServeConfig\.batch must be >= 1"):
        ServeConfig(batch=0)
