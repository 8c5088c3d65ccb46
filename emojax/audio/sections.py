"""Division of audio files into streams with correct headers.

Decoders stop at the length stated in a header, or at the end of the first stream. Headers are wrong in files that were
written to a pipe, concatenated, or written by a recorder that was killed. The streams are therefore located here, and
each is decoded with a header that states the true length or none.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from emojax.audio.mpeg_frames import begins_with_mpeg_frames, mpeg_tracks
from emojax.audio.pieces import BinaryFile, Pieces

ByteOrder = Literal["little", "big"]

_PCM, _FLOAT, _MP3, _EXTENSIBLE = 1, 3, 0x55, 0xFFFE
"""WAV format codes."""

_UNKNOWN = b"\xff\xff\xff\xff"
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_BLOCK = 1 << 20
_HEAD = 1 << 13
"""Bytes read to recognise MP3 without a tag; two frames of any bitrate fit."""


class Section(NamedTuple):
    """One audio stream of a file.

    Attributes:
      stream: input of the decoder.
      skip: samples per channel to skip at the start.
      frames: samples per channel to decode; None for all.
      seconds: duration stated by the original header, if it was removed from `stream`; else 0.
    """

    stream: Pieces
    skip: int = 0
    frames: int | None = None
    seconds: float = 0.0


def audio_sections(file: BinaryFile, start: int, most_seconds: float) -> Iterator[Section]:
    """Yields the streams of a file in order.

    Args:
      file: seekable file.
      start: first byte.
      most_seconds: duration after which the search may stop (s).
    """
    end = file.seek(0, 2)
    before, start = start, _after_id3(file, start, end)
    file.seek(start)
    head = file.read(min(_HEAD, end - start))
    streams: Iterator[Section] = iter(())
    if head[:4] == b"fLaC":
        streams = _flac_streams(file, start, end)
    elif head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        streams = _wav(file, start, end, most_seconds)
    elif head[:4] == b".snd" and len(head) >= 12 and head[8:12] == bytes(4):
        streams = iter([Section(Pieces(file, [head[:8], _UNKNOWN, (start + 12, end)]))])  # AU without a size
    elif head[:4] == b"OggS":
        streams = _ogg_links(file, start, end)
    elif begins_with_mpeg_frames(head) or (start > before and head[:1] == b"\xff"):
        streams = _mpeg(file, start, end, most_seconds)
    found = False
    for section in streams:
        found = True
        yield section
    if not found:
        yield Section(Pieces(file, [(start, end)]))


def _after_id3(file: BinaryFile, position: int, end: int) -> int:
    """Returns the position after ID3v2 tags and the zeros that some writers append."""
    begin = position
    while True:
        file.seek(position)
        tag = file.read(10)
        if tag[:3] != b"ID3" or len(tag) < 10 or max(tag[6:10]) > 0x7F:
            break
        size = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        position += 10 + size + (10 if tag[5] & 0x10 else 0)
        if position >= end:
            return begin
    if position == begin:
        return begin
    file.seek(position)
    zeros = file.read(_HEAD)
    return position + len(zeros) - len(zeros.lstrip(b"\0"))


def _ogg_links(file: BinaryFile, start: int, end: int) -> Iterator[Section]:
    """Yields the links of a chained Ogg file (RFC 3533), each of which starts with beginning-of-stream pages."""
    first, in_headers, position = start, True, start
    while position + 27 <= end:
        file.seek(position)
        page = file.read(27 + 255)
        if page[:4] != b"OggS":
            found = _find(file, b"OggS", position + 1, end)
            if found is None:
                break
            position = found
            continue
        begins = bool(page[5] & 2)
        if begins and not in_headers:
            yield Section(Pieces(file, [(first, position)]))
            first = position
        in_headers = begins
        position += 27 + page[26] + sum(page[27 : 27 + page[26]])
    yield Section(Pieces(file, [(first, end)]))


def _flac_streams(file: BinaryFile, start: int, end: int) -> Iterator[Section]:
    """Yields FLAC streams with headers that do not state the number of samples."""
    first: int | None = start
    while first is not None:
        following = _find(file, _FLAC, first + 8, end)
        file.seek(first)
        header = file.read(26)  # to the number of samples, the last 36 bits
        if len(header) == 26 and _FLAC.match(header):
            changed = header[:21] + bytes([header[21] & 0xF0]) + bytes(4)
            fields = int.from_bytes(header[18:], "big")
            seconds = (fields & (1 << 36) - 1) / max(fields >> 44, 1)
            yield Section(Pieces(file, [changed, (first + 26, following or end)]), seconds=seconds)
        else:
            yield Section(Pieces(file, [(first, following or end)]))
        first = following


def _mpeg(file: BinaryFile, start: int, end: int, most_seconds: float) -> Iterator[Section]:
    for track in mpeg_tracks(file, start, end, most_seconds):
        yield Section(Pieces(file, track.pieces()), skip=track.skip)


def _wav(file: BinaryFile, start: int, end: int, most_seconds: float) -> Iterator[Section]:
    """Yields the stream of a WAV file; data of unknown size extends to the end of the file."""
    whole = Section(Pieces(file, [(start, end)]))
    file.seek(start)
    order: ByteOrder = "big" if file.read(4) == b"RIFX" else "little"
    position, layout, samples = start + 12, b"", None
    while position + 8 <= end:
        file.seek(position)
        name, size = file.read(4), int.from_bytes(file.read(4), order)
        if name == b"data":
            break
        if name == b"fmt ":
            layout = file.read(min(size, 64))
        elif name == b"fact" and size >= 4:
            samples = int.from_bytes(file.read(4), order)
        position += 8 + size + size % 2
    else:
        yield whole
        return
    first = position + 8
    last = end if size in (0, 0xFFFFFFFF) else min(end, first + size)
    if size == 0 and _is_chunks(file, first, end, order):
        yield whole
    elif len(layout) >= 2 and int.from_bytes(layout[:2], order) == _MP3:
        yield from list(_mpeg(file, first, last, most_seconds)) or [whole]
    elif size == 0:
        yield Section(Pieces(file, [(start, position + 4), _UNKNOWN, (first, end)]))
    else:
        yield Section(whole.stream, frames=_samples_in_blocks(layout, samples, last - first, order))


def _samples_in_blocks(layout: bytes, samples: int | None, size: int, order: ByteOrder) -> int | None:
    """Returns the number of samples of a block-compressed WAV, whose last block may be padded; None for other formats.

    libsndfile decodes an additional block from the byte that pads the data to an even size.
    """
    if len(layout) < 20 or int.from_bytes(layout[:2], order) in (_PCM, _FLOAT, _EXTENSIBLE):
        return None
    align, per_block = (int.from_bytes(layout[at : at + 2], order) for at in (12, 18))
    if align == 0 or per_block == 0 or size % align:
        return None
    most = size // align * per_block
    return samples if samples is not None and most - per_block < samples <= most else most


def _is_chunks(file: BinaryFile, position: int, end: int, order: ByteOrder) -> bool:
    """Whether the rest of a file is a (possibly empty) sequence of RIFF chunks."""
    while position + 8 <= end:
        file.seek(position)
        name, size = file.read(4), int.from_bytes(file.read(4), order)
        if not all(0x20 <= letter < 0x7F for letter in name):
            return False
        position += 8 + size + size % 2
    return position in (end, end + 1)


def _find(file: BinaryFile, wanted: bytes | re.Pattern[bytes], position: int, end: int) -> int | None:
    """Finds the first occurrence of a pattern (at most 8 bytes) at or after a position."""
    pattern = re.compile(re.escape(wanted)) if isinstance(wanted, bytes) else wanted
    while position < end:
        file.seek(position)
        block = file.read(min(_BLOCK, end - position))
        found = pattern.search(block)
        if found:
            return position + found.start()
        if len(block) < _BLOCK:
            return None
        position += len(block) - 7
    return None
