"""Parser of MPEG audio frames: counts the frames of MP3 streams, whose headers are often wrong."""

import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

from emojax.audio.pieces import BinaryFile, Piece

_BITRATES = {  # kbit/s by (MPEG-1, layer), index 1 to 14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_HEAD = 64
"""Bytes read of each frame: header, side information, and the start of a Xing or VBRI tag."""

_SEARCH = 1 << 16
_HIGHEST_BITRATE = 14
_DECODER_DELAY = 529
"""Delay of a layer-3 decoder in samples, which libmpg123 skips if the number of frames is stated."""


class Frame(NamedTuple):
    """Header of an MPEG audio frame.

    Attributes:
      layer: 1 to 3.
      rate: sample rate (Hz).
      mpeg1: whether it is MPEG-1, not MPEG-2 or 2.5.
      mono: whether it has one channel, else two.
      crc: whether a checksum of two bytes follows the header.
      samples: samples per channel.
      length: length of the frame in bytes.
      kind: key that is equal for frames of one stream; for layers 1 and 2, whose streams cannot state their length,
        it includes the bitrate.
    """

    layer: int
    rate: int
    mpeg1: bool
    mono: bool
    crc: bool
    samples: int
    length: int
    kind: tuple[int, ...]


@dataclasses.dataclass
class Track:
    """One MPEG audio stream.

    Attributes:
      header: first four bytes of the first frame.
      frame: parsed header.
      tag: Xing frame at the start, if it states the number of frames.
      stated_count: number of frames that the tag states.
      count: number of frames found.
      ranges: byte ranges of the frames.
    """

    header: bytes
    frame: Frame
    tag: bytes | None = None
    stated_count: int | None = None
    count: int = 0
    ranges: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def add(self, position: int, length: int) -> None:
        """Adds a frame."""
        self.count += 1
        if self.ranges and self.ranges[-1][1] == position:
            self.ranges[-1] = (self.ranges[-1][0], position + length)
        else:
            self.ranges.append((position, position + length))

    def pieces(self) -> list[Piece]:
        """Returns the track as a separate stream whose first frame states the true number of frames.

        With an added Xing frame, decoders skip the first 529 samples as their delay. A silent frame is prepended to
        supply them; its remaining samples are `skip`.
        """
        if self.frame.layer != 3:
            return [*self.ranges]
        size = sum(end - start for start, end in self.ranges)
        if self.tag is not None:
            return [_with_counts(self.tag, self.frame, self.count, size), *self.ranges]
        empty = _empty_frame(self.header)
        tag = bytearray(empty)
        offset = 4 + _side_bytes(self.frame)
        tag[offset : offset + 8] = b"Info" + (1).to_bytes(4, "big")
        return [_with_counts(bytes(tag), self.frame, self.count + 1, size), empty, *self.ranges]

    @property
    def skip(self) -> int:
        """Samples at the beginning of `pieces` that are not of the track."""
        return self.frame.samples - _DECODER_DELAY if self.frame.layer == 3 and self.tag is None else 0


def mpeg_frame(header: bytes) -> Frame | None:
    """Parses an MPEG audio frame header; None if it is invalid or of free format."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or not 1 <= bitrate_index <= 14 or rate_index == 3:
        return None
    mpeg1, mono = version == 3, header[3] >> 6 == 3
    rate, bitrate = _RATES[version][rate_index], 1000 * _BITRATES[mpeg1, layer][bitrate_index - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and not mpeg1 else 1152
    length = (12 * bitrate // rate + padding) * 4 if layer == 1 else samples // 8 * bitrate // rate + padding
    kind = (layer, rate, int(mono), 0 if layer == 3 else bitrate)
    return Frame(layer, rate, mpeg1, mono, not header[1] & 1, samples, length, kind)


def begins_with_mpeg_frames(head: bytes) -> bool:
    """Whether bytes start with two frames of one kind, or consist of a single frame."""
    first = mpeg_frame(head)
    if first is None or first.length > len(head):
        return False
    second = mpeg_frame(head[first.length :])
    return len(head) == first.length or (second is not None and second.kind == first.kind)


def mpeg_tracks(file: BinaryFile, start: int, end: int, most_seconds: float) -> Iterator[Track]:
    """Finds the MPEG audio streams in a range of a file.

    Bytes between frames (tags, damage) are skipped. A new stream starts at a Xing or VBRI tag, at a frame of another
    kind, and after the stated number of frames if the next frame does not depend on earlier ones.

    Args:
      file: seekable file.
      start: first byte.
      end: byte after the last.
      most_seconds: duration after which the search stops (s).
    """
    track: Track | None = None
    seconds = 0.0
    for position, head, frame in _frames(file, start, end):
        tag = _tag_offset(head, frame)
        complete = track is not None and track.stated_count == track.count and _is_independent(head, frame)
        if track is None or tag is not None or frame.kind != track.frame.kind or complete:
            if track is not None and track.count:
                yield track
            track = Track(head[:4], frame)
        if tag is not None:
            file.seek(position)
            track.tag = _without_checksum(file.read(frame.length), tag, frame)
            track.stated_count = None if track.tag is None else _stated_frames(track.tag, frame)
            continue
        track.add(position, frame.length)
        seconds += frame.samples / frame.rate
        if seconds > most_seconds:
            break
    if track is not None and track.count:
        yield track


def _frames(file: BinaryFile, position: int, end: int) -> Iterator[tuple[int, bytes, Frame]]:
    """Yields position, first bytes and header of every complete frame."""
    kind: tuple[int, ...] | None = None
    while position + 4 <= end:
        file.seek(position)
        head = file.read(min(_HEAD, end - position))
        frame = mpeg_frame(head)
        if (
            frame is not None
            and position + frame.length <= end
            and (frame.kind == kind or _is_confirmed(file, position, end, frame))
        ):
            kind = frame.kind
            yield position, head, frame
            position += frame.length
            continue
        found = _next_frame(file, position + 1, end)
        if found is None:
            return
        position = found


def _is_confirmed(file: BinaryFile, position: int, end: int, frame: Frame) -> bool:
    """Whether the frame is followed by another one of its kind, or by the end."""
    following = position + frame.length
    if following + 4 > end:
        return True
    file.seek(following)
    head = file.read(4)
    found = mpeg_frame(head)
    return head[:3] == b"TAG" or (found is not None and found.kind == frame.kind)


def _next_frame(file: BinaryFile, position: int, end: int) -> int | None:
    while position + 4 <= end:
        file.seek(position)
        block = file.read(min(_SEARCH, end - position))
        for match in _SYNC.finditer(block):
            at = position + match.start()
            frame = mpeg_frame(block[match.start() : match.start() + 4])
            if frame is not None and at + frame.length <= end and _is_confirmed(file, at, end, frame):
                return at
        position += max(1, len(block) - 3)
    return None


def _tag_offset(head: bytes, frame: Frame) -> int | None:
    """Returns the offset of a Xing, Info or VBRI tag in a frame; None without a tag."""
    if frame.layer != 3:
        return None
    for offset in (4 + _side_bytes(frame), 6 + _side_bytes(frame)):  # writers differ in whether they count a checksum
        if head[offset : offset + 4] in (b"Xing", b"Info"):
            return offset
    return 36 if head[36:40] == b"VBRI" else None


def _side_bytes(frame: Frame) -> int:
    return (17 if frame.mono else 32) if frame.mpeg1 else (9 if frame.mono else 17)


def _is_independent(head: bytes, frame: Frame) -> bool:
    """Whether a layer-3 frame uses no data of earlier frames (`main_data_begin` is 0)."""
    at = 6 if frame.crc else 4
    return head[at] == 0 and (not frame.mpeg1 or head[at + 1] < 0x80)


def _without_checksum(tag: bytes, offset: int, frame: Frame) -> bytes | None:
    """Moves a Xing tag to its offset in a frame without checksum; None if it does not state the number of frames."""
    usual = 4 + _side_bytes(frame)
    if tag[offset : offset + 4] == b"VBRI" or len(tag) < offset + 16 or not tag[offset + 7] & 1:
        return None
    moved = tag[:4] + tag[4 + offset - usual :] + bytes(offset - usual)
    return bytes([moved[0], moved[1] | 1]) + moved[2:]


def _stated_frames(tag: bytes, frame: Frame) -> int:
    """Returns the number of frames that a Xing frame states."""
    offset = 12 + _side_bytes(frame)
    return int.from_bytes(tag[offset : offset + 4], "big")


def _empty_frame(header: bytes) -> bytes:
    """Creates a silent layer-3 frame without checksum, at the highest bitrate, so that a tag fits."""
    first = bytes([header[0], header[1] | 1, _HIGHEST_BITRATE << 4 | header[2] & 0x0C, header[3]])
    made = mpeg_frame(first)
    assert made is not None
    return first + bytes(made.length - 4)


def _with_counts(tag: bytes, frame: Frame, count: int, size: int) -> bytes:
    """Corrects the number of bytes of a Xing frame, and its number of frames if it is too small."""
    changed, offset = bytearray(tag), 4 + _side_bytes(frame)
    if _stated_frames(tag, frame) < count:
        changed[offset + 8 : offset + 12] = count.to_bytes(4, "big")
    if tag[offset + 7] & 2:
        changed[offset + 12 : offset + 16] = (size + len(tag)).to_bytes(4, "big")
    return bytes(changed)
