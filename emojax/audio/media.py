"""What browsers and phones record (m4a, webm, aac, amr, wma, ...), through PyAV, which carries FFmpeg's libraries."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32

from emojax.audio.pieces import BinaryFile

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,loas,amr,amrnb,amrwb,asf,asf_o,caf,wav,w64,ogg,flac,mp3,aiff,au,ac3,eac3"
)
"""Demuxers that may be chosen: none of playlists, which name further files and addresses to be opened."""

_MAGIC = (
    (4, b"ftyp", "MP4 (m4a, mp4, 3gp)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska (webm, mka)"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF (wma)"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
)


def missing_package(head: bytes) -> str | None:
    """What to add to an error's reason where PyAV is not installed; None where it is.

    Args:
      head: the first 16 bytes of the file.
    """
    if importlib.util.find_spec("av") is not None:
        return None
    kind = next((name for offset, magic, name in _MAGIC if head[offset : offset + len(magic)] == magic), None)
    if kind is None:
        return ""
    return f"; {kind} needs PyAV, which is not installed (pip install av)"


def decode_media(file: BinaryFile, block_values: int) -> Iterator[tuple[int, Float32[np.ndarray, "S channels"]]]:
    """Decodes the first audio stream of a file, in blocks.

    Args:
      file: seekable, at its beginning.
      block_values: samples times channels to gather at least, for frames are short.

    Yields:
      Samples per second (Hz), and samples of full scale 1.0.

    Raises:
      Exception: PyAV's own, or ValueError where there is no sound.
    """
    import av

    av.logging.set_level(None)
    with av.open(file, mode="r", container_options={"format_whitelist": _FORMATS}, io_open=_refuse) as container:
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
    """Frames as planes of float32, whatever the codec makes; rate and channels stay."""
    import av

    resampler, layout = None, None
    for frame in frames:
        found = frame.format.name, frame.layout.name, frame.sample_rate
        if found != layout:
            resampler, layout = av.AudioResampler(format="fltp"), found
        assert resampler is not None
        yield from resampler.resample(frame)


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError(f"asks for another file ({url})")
