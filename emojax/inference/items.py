"""Inputs of `predict`: paths, open files, arrays, transcripts. Anything else is an error that names the item."""

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
    """The items of a call as a list, and whether the call had a single item instead of a list.

    Args:
      items: argument of the call.
      rate: sample rate (Hz), if `items` is one array.

    Raises:
      AudioError: an item has another type, or lacks its sample rate.
    """
    single = not isinstance(items, (list, tuple)) or _is_pair(items)
    if _is_array(items):
        if rate is None:
            raise AudioError("an array needs its sample rate: predict(array, rate)")
        items = (items, rate)
    elif rate is not None:
        raise AudioError(f"rate belongs to one array, got items {_described(items)}; use (array, rate) pairs")
    if single and not (_is_path(items) or _is_file(items) or _is_pair(items)):
        raise AudioError(
            f"items must be {_ALLOWED}, an array with its rate, or a list of items, got {_described(items)}"
        )
    listed = [items] if single else list(items)
    for number, item in enumerate(listed):
        _check(item, f"item {number}")
    return listed, single


def as_transcripts(transcripts: Any, count: int) -> list[str]:
    """One transcript per item; "" for None.

    Args:
      transcripts: a text, a list of texts and None, or None.
      count: number of items.

    Raises:
      CorpusError: the number of transcripts is not `count`, or one is not a text.
    """
    if transcripts is None:
        return [""] * count
    if isinstance(transcripts, str):
        transcripts = [transcripts]
    if not isinstance(transcripts, (list, tuple)):
        raise CorpusError(f"transcripts must be a text, or a list of texts and None, got {_described(transcripts)}")
    if len(transcripts) != count:
        raise CorpusError(f"transcripts must be one per item, got {len(transcripts)} for {count} items")
    for number, text in enumerate(transcripts):
        if not (text is None or isinstance(text, str)):
            raise CorpusError(f"transcript {number} must be a text or None, got {_described(text)}")
    return ["" if text is None else str(text) for text in transcripts]


def item_name(item: Item, number: int) -> str:
    """Name of an item in messages: its number, and its path if it has one."""
    return f"item {number} ({item})" if _is_path(item) else f"item {number}"


def read_item(item: Item, name: str, min_samples: int) -> Float32[np.ndarray, "S"]:
    """Reads an item as 16 kHz mono, full scale 1.0.

    Args:
      item: element of a list that `as_list` returned.
      name: label of the item in messages.
      min_samples: samples of the model's shortest input.

    Raises:
      AudioError: the item cannot be read, or is too short; the message begins with `name`.
    """
    if isinstance(item, tuple):
        waveform = to_mono_16khz(_array(item[0], name), float(item[1]), name)
    else:
        waveform = read_audio(item, name)
    if len(waveform) < min_samples:
        raise AudioError(
            f"{name}: must have at least {min_samples} samples at 16 kHz ({1000 * min_samples / SAMPLE_RATE:g} ms, one "
            f"frame of this model), got {len(waveform)}"
        )
    return waveform


def _check(item: Any, name: str) -> None:
    if _is_path(item) or (_is_file(item) and not isinstance(item, io.TextIOBase)):
        return
    if _is_array(item):
        raise AudioError(f"{name} must be {_ALLOWED}, got an array without its sample rate")
    if not _is_pair(item):
        raise AudioError(f"{name} must be {_ALLOWED}, got {_described(item)}")
    array, rate = item
    if not _is_array(array):
        raise AudioError(f"{name} must be {_ALLOWED}, got {_described(array)} and a rate")
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real):
        raise AudioError(f"{name}: sample rate must be a number (Hz), got {_described(rate)}")
    try:
        check_rate(float(rate), name)
    except OverflowError as error:  # an integer beyond any float
        raise AudioError(f"{name}: sample rate must be a number (Hz) that a float can hold") from error


def _array(values: Any, name: str) -> np.ndarray:
    if np.ma.is_masked(values):
        raise AudioError(f"{name}: has masked samples; fill them, e.g. array.filled(0)")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # e.g. a PyTorch tensor on a GPU, or with a gradient
        raise AudioError(f"{name}: cannot be made a NumPy array ({reason(error)})") from error


def _is_path(item: Any) -> bool:
    return isinstance(item, (str, os.PathLike))


def _is_file(item: Any) -> bool:
    return callable(getattr(item, "read", None))


def _is_array(item: Any) -> bool:
    """Arrays of NumPy, JAX and others that convert themselves; no scalars."""
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
    return f"an object of type {type(item).__name__}"
