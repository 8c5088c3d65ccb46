"""Audio decoders: libsndfile, and PyAV for formats that libsndfile does not support."""

import importlib.util
import os
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32

from emojax.audio.pieces import BinaryFile
from emojax.audio.sections import Section, audio_sections

Block = tuple[int, Float32[np.ndarray, "S channels"]]
"""Sample rate (Hz), and samples of full scale 1.0."""

BLOCK_VALUES = 1 << 18
"""Values (samples times channels) decoded at a time."""


class TooLong(Exception):
    """Audio is longer than the limit of the caller; `seconds` is the stated duration."""

    def __init__(self, seconds: float):
        super().__init__(seconds)
        self.seconds = seconds


class Unreadable(Exception):
    """No decoder can read the file; the message is the reason."""


def decoded_blocks(file: BinaryFile, most_seconds: float) -> Generator[Block, None, None]:
    """Decodes all audio of a file in blocks; the rate may change between concatenated streams.

    Args:
      file: seekable file, read from its current position.
      most_seconds: maximal duration to decode (s).

    Raises:
      TooLong: the stated duration is more than `most_seconds`.
      Unreadable: no decoder supports the file, or the file is damaged.
    """
    start, seconds, started = file.tell(), 0.0, False
    for section in audio_sections(file, start, most_seconds):
        try:
            sound = _open(section)
        except RuntimeError as error:  # soundfile's errors
            _raise_failure(section)
            if started:
                raise Unreadable(_reason(error)) from error
            yield from _with_other_decoder(file, start, error)
            return
        with sound:
            stated = sound.frames / sound.samplerate if sound.frames < 1 << 62 else section.seconds
            if seconds + stated > most_seconds:
                raise TooLong(seconds + stated)
            started = True
            for block in _blocks(sound, section):
                seconds += len(block) / sound.samplerate
                yield sound.samplerate, block


def _open(section: Section):
    """Opens a `soundfile.SoundFile` that is read sequentially.

    soundfile seeks to the current position after every block, which loses the start of the next MP3 block, and seeks
    to positions that streams of unknown length do not have. It does not seek in a file that is not seekable.
    """
    import soundfile

    class Forwards(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    sound = Forwards(section.stream)
    if sound.subtype == "OPUS":  # libsndfile skips the pre-skip samples only after a seek
        sound.seek(0)
    return sound


def _blocks(sound, section: Section) -> Iterator[Float32[np.ndarray, "S channels"]]:
    import soundfile

    size, left, skip = max(1, BLOCK_VALUES // sound.channels), section.frames, section.skip
    while left is None or left > 0:
        try:
            block = sound.read(min(size, left or size), dtype="float32", always_2d=True)
        except soundfile.SoundFileRuntimeError as error:
            _raise_failure(section)
            raise Unreadable(_reason(error)) from error
        _raise_failure(section)
        if len(block) == 0:
            return
        left = None if left is None else left - len(block)
        if skip < len(block):
            yield block[skip:]
        skip = max(0, skip - len(block))


def _with_other_decoder(file: BinaryFile, start: int, error: RuntimeError) -> Iterator[Block]:
    file.seek(start)
    hint = missing_package(file.read(16))
    if hint is not None:
        raise Unreadable(f"{_reason(error)}{hint}") from error
    file.seek(start)
    started = False
    try:
        for block in decode_media(file, BLOCK_VALUES):
            started = True
            yield block
    except Exception as other:
        raise Unreadable(str(other) if started else _reason(error)) from other


def _raise_failure(section: Section) -> None:
    if section.stream.failure is not None:
        raise section.stream.failure


def _reason(error: BaseException) -> str:
    return getattr(error, "error_string", str(error)).rstrip(". ")


def file_size(file: BinaryFile) -> int:
    """Returns the number of bytes from a file's position to its end."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END) - position
    file.seek(position)
    return size


_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,loas,amr,amrnb,amrwb,asf,asf_o,caf,wav,w64,ogg,flac,mp3,aiff,au,ac3,eac3"
)
"""Allowed demuxers; playlist formats are excluded, since they can open other files and URLs."""

_MAGIC = (
    (4, b"ftyp", "MP4 (m4a, mp4, 3gp)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska (webm, mka)"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF (wma)"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
)


def missing_package(head: bytes) -> str | None:
    """Returns a hint to install PyAV for an error message; None if PyAV is installed.

    Args:
      head: first 16 bytes of the file.
    """
    if importlib.util.find_spec("av") is not None:
        return None
    kind = next((name for offset, magic, name in _MAGIC if head[offset : offset + len(magic)] == magic), None)
    if kind is None:
        return ""
    return f"; {kind} needs PyAV, which is not installed (pip install av)"


def decode_media(file: BinaryFile, block_values: int) -> Iterator[tuple[int, Float32[np.ndarray, "S channels"]]]:
    """Decodes the first audio stream of a file with PyAV, in blocks.

    Args:
      file: seekable file at its start.
      block_values: minimal number of values (samples times channels) per block.

    Yields:
      Sample rate (Hz), and samples of full scale 1.0.

    Raises:
      Exception: an exception of PyAV, or ValueError if there is no audio stream.
    """
    import av

    av.logging.set_level(None)
    with av.open(file, mode="r", container_options={"format_whitelist": _FORMATS}, io_open=_deny_open) as container:
        if not container.streams.audio:
            raise ValueError("has no audio stream")
        rate, gathered, size = 0, list[np.ndarray](), 0
        for frame in _planar(container.decode(container.streams.audio[0])):
            block = frame.to_ndarray().T.astype(np.float32)
            other = gathered and (frame.sample_rate != rate or block.shape[1] != gathered[0].shape[1])
            if other or size >= block_values:
                yield rate, np.concatenate(gathered)
                gathered, size = [], 0
            rate, size = frame.sample_rate, size + block.size
            gathered.append(block)
        if gathered:
            yield rate, np.concatenate(gathered)


def _planar(frames: Iterator[Any]) -> Iterator[Any]:
    """Converts frames to planar float32 of the same rate and channels."""
    import av

    resampler, layout = None, None
    for frame in frames:
        found = frame.format.name, frame.layout.name, frame.sample_rate
        if found != layout:
            resampler, layout = av.AudioResampler(format="fltp"), found
        assert resampler is not None
        yield from resampler.resample(frame)


def _deny_open(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError(f"refers to another file ({url})")
