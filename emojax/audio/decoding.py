"""From a file to blocks of samples: libsndfile reads what it can, PyAV (if installed) what it cannot open."""

import os
from collections.abc import Generator, Iterator

import numpy as np
from jaxtyping import Float32

from emojax.audio.media import decode_media, missing_package
from emojax.audio.pieces import BinaryFile
from emojax.audio.sections import Section, audio_sections

Block = tuple[int, Float32[np.ndarray, "S channels"]]
"""Samples per second (Hz), and samples of full scale 1.0."""

BLOCK_VALUES = 1 << 18
"""Samples times channels that are decoded at a time."""


class TooLong(Exception):
    """More sound than the caller takes; `seconds` is how much a file says it has."""

    def __init__(self, seconds: float):
        super().__init__(seconds)
        self.seconds = seconds


class Unreadable(Exception):
    """A file that no decoder can read; the message is the reason."""


def decoded_blocks(file: BinaryFile, most_seconds: float) -> Generator[Block, None, None]:
    """Everything that can be decoded, block by block; the rate may change between joined streams.

    Args:
      file: seekable, read from its position on.
      most_seconds: no more is decoded.

    Raises:
      TooLong: the file states that it holds more than `most_seconds`; nothing beyond is decoded.
      Unreadable: no decoder reads it, or the decoder finds it damaged.
    """
    start, seconds, begun = file.tell(), 0.0, False
    for section in audio_sections(file, start, most_seconds):
        try:
            sound = _open(section)
        except RuntimeError as error:  # soundfile's errors
            _raise_failure(section)
            if begun:
                raise Unreadable(_reason(error)) from error
            yield from _with_other_decoder(file, start, error)
            return
        with sound:
            stated = sound.frames / sound.samplerate if sound.frames < 1 << 62 else section.seconds
            if seconds + stated > most_seconds:
                raise TooLong(seconds + stated)
            begun = True
            for block in _blocks(sound, section):
                seconds += len(block) / sound.samplerate
                yield sound.samplerate, block


def _open(section: Section):
    """A `soundfile.SoundFile` that is read forwards only.

    soundfile seeks to where it already is after every block, which costs MP3 the start of the next one, and asks for
    positions that streams of unknown length do not have. It seeks in no file that calls itself not seekable.
    """
    import soundfile

    class Forwards(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    sound = Forwards(section.stream)
    if sound.subtype == "OPUS":  # libsndfile leaves out the samples before the beginning only after a seek
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
    begun = False
    try:
        for block in decode_media(file, BLOCK_VALUES):
            begun = True
            yield block
    except Exception as other:
        raise Unreadable(str(other) if begun else _reason(error)) from other


def _raise_failure(section: Section) -> None:
    if section.stream.failure is not None:
        raise section.stream.failure


def _reason(error: BaseException) -> str:
    return getattr(error, "error_string", str(error)).rstrip(". ")


def file_size(file: BinaryFile) -> int:
    """Bytes from a file's position to its end."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END) - position
    file.seek(position)
    return size
