"""What `predict` takes: paths, open files, arrays, transcripts. Anything else is an error that names the item."""

import io
import numbers
import os
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32

from emojax.audio import read_audio, to_mono_16khz
from emojax.audio.files import check_rate
from emojax.errors import AudioError, CorpusError, reason
from emojax.types import SAMPLE_RATE

Item = str | os.PathLike[str] | BinaryIO | tuple[np.ndarray, float]
"""An utterance: a path, a file opened for reading bytes, or an array and its sample rate in Hz."""

_ALLOWED = "a path, a binary file, or an (array, rate) pair"


def as_list(items: Any, rate: Any) -> tuple[list[Any], bool]:
    """The items of a call, and whether there is only one that is not in a list.

    Args:
      items: as the caller gave them.
      rate: of `items`, where they are one array.

    Raises:
      AudioError: an item is of no type that is allowed, or lacks its sample rate.
    """
    single = not isinstance(items, (list, tuple)) or _is_pair(items)
    if _is_array(items):
        if rate is None:
            raise AudioError("an array needs its sample rate: predict(array, rate)")
        items = (items, rate)
    elif rate is not None:
        raise AudioError(f"rate: is of one array, items are {_described(items)}; allowed: (array, rate) pairs")
    if single and not (_is_path(items) or _is_file(items) or _is_pair(items)):
        raise AudioError(f"items: {_described(items)}; allowed: {_ALLOWED}; predict(array, rate); a list of items")
    listed = [items] if single else list(items)
    for number, item in enumerate(listed):
        _check(item, f"item {number}")
    return listed, single


def as_transcripts(transcripts: Any, count: int) -> list[str]:
    """One transcript for each of so many items; "" where there is none.

    Raises:
      CorpusError: there is another number of them, or one is no text.
    """
    if transcripts is None:
        return [""] * count
    if isinstance(transcripts, str):
        transcripts = [transcripts]
    if not isinstance(transcripts, (list, tuple)):
        raise CorpusError(f"transcripts: {_described(transcripts)}; allowed: a text, or a list of texts and None")
    if len(transcripts) != count:
        raise CorpusError(f"{len(transcripts)} transcripts for {count} items; allowed: one each")
    for number, text in enumerate(transcripts):
        if not (text is None or isinstance(text, str)):
            raise CorpusError(f"transcript {number}: {_described(text)}; allowed: a text, or None where there is none")
    return ["" if text is None else str(text) for text in transcripts]


def read_item(item: Item, number: int, min_samples: int) -> Float32[np.ndarray, "S"]:
    """An item as 16 kHz mono, full scale 1.0.

    Args:
      item: that `as_list` let pass.
      number: its place, for messages.
      min_samples: the fewest samples that a model has a frame of.

    Raises:
      AudioError: it cannot be read, or is too short; the message names it.
    """
    name = f"item {number}"
    if isinstance(item, tuple):
        waveform = to_mono_16khz(_array(item[0], name), float(item[1]), name)
    else:
        name = f"{name} ({item})" if _is_path(item) else name
        waveform = read_audio(item, name)
    if len(waveform) < min_samples:
        raise AudioError(
            f"{name}: {len(waveform)} samples at 16 kHz are too short for one frame of this model; "
            f"allowed: at least {min_samples} ({1000 * min_samples / SAMPLE_RATE:g} ms)"
        )
    return waveform


def _check(item: Any, name: str) -> None:
    if _is_path(item) or (_is_file(item) and not isinstance(item, io.TextIOBase)):
        return
    if _is_array(item):
        raise AudioError(f"{name}: an array without its sample rate; allowed: {_ALLOWED}")
    if not _is_pair(item):
        raise AudioError(f"{name}: {_described(item)}; allowed: {_ALLOWED}")
    array, rate = item
    if not _is_array(array):
        raise AudioError(f"{name}: {_described(array)} and a rate; allowed: {_ALLOWED}")
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real):
        raise AudioError(f"{name}: sample rate {_described(rate)}; allowed: a number (Hz)")
    try:
        check_rate(float(rate), name)
    except OverflowError as error:  # an integer beyond any float
        raise AudioError(f"{name}: sample rate is too large; allowed: a number (Hz)") from error


def _array(values: Any, name: str) -> np.ndarray:
    if np.ma.is_masked(values):
        raise AudioError(f"{name}: has masked samples; allowed: an array without, e.g. array.filled(0)")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # e.g. a PyTorch tensor on a GPU, or with a gradient
        raise AudioError(f"{name}: cannot be made a NumPy array ({reason(error)})") from error


def _is_path(item: Any) -> bool:
    return isinstance(item, (str, os.PathLike))


def _is_file(item: Any) -> bool:
    return callable(getattr(item, "read", None))


def _is_array(item: Any) -> bool:
    """Arrays of NumPy, JAX and whatever converts itself; no scalars."""
    return hasattr(item, "__array__") and not isinstance(item, np.generic)


def _is_pair(item: Any) -> bool:
    if not isinstance(item, tuple) or len(item) != 2:
        return False
    return _is_array(item[0]) or isinstance(item[1], numbers.Real)


def _described(item: Any) -> str:
    if item is None:
        return "None"
    if isinstance(item, io.TextIOBase):
        return "a file opened as text"
    return f"of type {type(item).__name__}"
