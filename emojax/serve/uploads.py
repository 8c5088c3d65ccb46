"""Requests for a prediction: parameters, content type, and a body of bounded size that is received in bounded time."""

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any, get_args

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from emojax.audio.files import MAX_RATE, MIN_RATE
from emojax.serve.decoding import EncodedAudio, Encoding
from emojax.serve.problems import Problem

_TYPES = "audio/*, video/webm, video/mp4, application/octet-stream or multipart/form-data"

_ONE_PART = "the multipart body must have exactly one part, with the name file"

_DISCARD_SECONDS = 2.0
"""Time for which the rest of a body that is too large is read, so that its sender reads the answer."""


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Query parameters of a prediction or a stream.

    Attributes:
      rate: sample rate of audio without a header (Hz); None: a file.
      encoding: encoding of audio without a header.
      embedding: whether the answer has the embedding.
    """

    rate: float | None
    encoding: Encoding
    embedding: bool


def parse_parameters(query: list[tuple[str, str]]) -> Parameters:
    """Parses query parameters.

    Raises:
      Problem: 400: an unknown or repeated parameter, or an invalid value.
    """
    allowed, values = ("rate", "encoding", "embedding"), dict(query)
    for name in values:
        if name not in allowed:
            raise Problem(400, f"parameter {name[:40]!r} does not exist; allowed: {', '.join(allowed)}")
    if len(values) < len(query):
        raise Problem(400, "a parameter must have one value, got several")
    rate = None
    if "rate" in values:
        try:
            rate = float(values["rate"])
        except ValueError:
            rate = math.nan
        if not MIN_RATE <= rate <= MAX_RATE:
            raise Problem(400, f"rate must be {MIN_RATE} to {MAX_RATE} (Hz), got {values['rate'][:40]!r}")
    encoding: Any = values.get("encoding", "s16le")
    if encoding not in get_args(Encoding):
        raise Problem(400, f"encoding must be {' or '.join(get_args(Encoding))}, got {encoding[:40]!r}")
    embedding = values.get("embedding", "false")
    if embedding not in ("true", "false"):
        raise Problem(400, f"embedding must be true or false, got {embedding[:40]!r}")
    return Parameters(rate, encoding, embedding == "true")


def check_content_type(headers: Mapping[str, str]) -> str:
    """Checks the content type of a request; returns its boundary of a multipart body, "" of others.

    Raises:
      Problem: 400 multipart without a boundary; 415 another content type, or a compressed body.
    """
    given = headers.get("content-type", "")
    kind, options = parse_options_header(given.encode("latin-1", "replace"))
    name = kind.decode("latin-1").lower()
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Content-Encoding must be identity")
    if name == "multipart/form-data":
        boundary = options.get(b"boundary", b"").decode("latin-1")
        if not 0 < len(boundary) <= 200:
            raise Problem(400, "multipart/form-data must have a boundary")
        return boundary
    if name.startswith("audio/") or name in ("application/octet-stream", "video/webm", "video/mp4"):
        return ""
    raise Problem(415, f"Content-Type must be {_TYPES}, got {given[:80]!r}")


async def receive_body(chunks: AsyncIterator[bytes], headers: Mapping[str, str], most: int, seconds: float) -> bytes:
    """Receives a body.

    Args:
      chunks: parts of the body as they arrive.
      headers: headers of the request.
      most: largest body (bytes).
      seconds: longest time to receive it (s).

    Raises:
      Problem: 400 an invalid Content-Length; 408 too slow; 413 too large.
    """
    declared = headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit():
        raise Problem(400, "Content-Length must be a number of bytes", close=True)
    too_large = Problem(413, f"the body must have at most {most} bytes, got more", close=True)
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(seconds):
            if int(declared[:18]) <= most:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > most:
                        break
                    parts.append(chunk)
                else:
                    return b"".join(parts)
    except TimeoutError:
        raise Problem(408, f"the body must be received within {seconds:g} s", close=True) from None
    parts.clear()
    await _discard(chunks, most)
    raise too_large


async def _discard(chunks: AsyncIterator[bytes], most: int) -> None:
    """Reads on for a while: a connection that is closed with unread data loses the answer."""
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            async for chunk in chunks:
                size += len(chunk)
                if size > most:
                    return


def parse_upload(body: bytes, boundary: str, parameters: Parameters) -> EncodedAudio:
    """The audio of a request.

    Args:
      body: body of the request.
      boundary: boundary of a multipart body, "" of others.
      parameters: query parameters.

    Raises:
      Problem: 400 a multipart body that is malformed, or has not exactly one part, `file`; 422 no bytes.
    """
    content = _part(body, boundary) if boundary else body
    if not content:
        raise Problem(422, "audio must not be empty, got 0 bytes")
    return EncodedAudio(content, parameters.rate, parameters.encoding)


def _part(body: bytes, boundary: str) -> bytes:
    """Content of the part `file` of a multipart body."""
    parts, ended = list[tuple[bytearray, list[bytes]]](), False
    header = bytearray()

    def begin() -> None:
        if parts:
            raise Problem(400, _ONE_PART)
        parts.append((bytearray(), []))

    def field(data: bytes, start: int, end: int) -> None:
        header.extend(data[start:end])

    def value(data: bytes, start: int, end: int) -> None:
        if header.lower() == b"content-disposition":
            parts[-1][1].append(data[start:end])

    def add(data: bytes, start: int, end: int) -> None:
        parts[-1][0].extend(data[start:end])

    def end() -> None:
        nonlocal ended
        ended = True

    callbacks: Any = {
        "on_part_begin": begin,
        "on_header_field": field,
        "on_header_value": value,
        "on_header_end": header.clear,
        "on_part_data": add,
        "on_end": end,
    }
    try:
        parser = MultipartParser(boundary.encode("latin-1"), callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Problem(400, "the multipart body is malformed") from None
    if not ended:
        raise Problem(400, "the multipart body ends before its last boundary")
    names = [parse_options_header(b"".join(disposition))[1].get(b"name") for _, disposition in parts]
    if names != [b"file"]:
        raise Problem(400, _ONE_PART)
    return bytes(parts[0][0])
