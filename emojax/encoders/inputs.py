"""Input adapters: how recordings or texts become the arrays an encoder computes on.

A family of encoders names its adapter class, `WaveformInputs` or `TokenInputs`; everything that differs between
waveforms and tokens (reading settings, checking items, padding, normalisation, lengths) is a method or attribute of it.
"""

import abc
import collections
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Array, Int

from emojax.bucketing import padded_batches
from emojax.types import Batch


class InputAdapter(abc.ABC):
    """Inputs of one encoder; calling an adapter normalises padded inputs and may happen inside `jax.jit`.

    Attributes:
      modality: kind of input.
      field: part of an utterance that is the input.
      shortest_bucket: length that the shortest inputs are padded to (samples or tokens).
      batch_size: samples or tokens computed at a time, padding included, unless a single item is longer.
      longest: longest input (samples or tokens); None: no limit.
      min_samples: fewest samples at 16 kHz that give one frame; 0 for texts.
    """

    modality: ClassVar[Literal["speech", "text"]]
    field: ClassVar[Literal["audio", "transcript"]]
    shortest_bucket: ClassVar[int]
    batch_size: ClassVar[int]
    longest: int | None
    min_samples: int

    @classmethod
    @abc.abstractmethod
    def of(cls, sizes: Any) -> "InputAdapter":
        """Makes an adapter without any file.

        Args:
          sizes: config of the encoder's module.
        """

    @classmethod
    @abc.abstractmethod
    def read(cls, folder: Path, sizes: Any) -> "InputAdapter":
        """Reads the settings of the inputs from a checkpoint's folder.

        Args:
          folder: folder of the checkpoint.
          sizes: config of the encoder's module.

        Raises:
          CheckpointError: files are absent or damaged, or do not fit the encoder.
        """

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the files that `read` reads."""

    @classmethod
    @abc.abstractmethod
    def example(cls) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of inputs (1, S) or (1, L) and lengths (1,), for `module.init`."""

    @classmethod
    @abc.abstractmethod
    def resolution(cls, sizes: Any, max_tokens: int) -> dict[str, int | None]:
        """Computes the time axis of hidden states, as feature stores record it.

        Args:
          sizes: config of the encoder's module.
          max_tokens: limit that transcripts are truncated to.

        Returns:
          `max_tokens` (None for waveforms) and `samples_per_frame` (None for texts).
        """

    @abc.abstractmethod
    def prepare(self, items: Any) -> list[np.ndarray]:
        """Converts checked items to sequences.

        Args:
          items: a sequence of items.

        Returns:
          (S_i,) float32 waveforms or (L_i,) int32 token ids, special tokens included.

        Raises:
          AudioError: an item is not a mono floating-point waveform, has samples that are not finite or far above full
            scale, or is too short for one frame.
          CorpusError: an item is not a text or has more tokens than the encoder takes.
        """

    @abc.abstractmethod
    def prepare_utterances(
        self, items: list[Any], max_tokens: int
    ) -> tuple[list[np.ndarray], collections.Counter[str]]:
        """Converts the `field` of utterances of a corpus to sequences; nothing is rejected.

        Args:
          items: int16 (S_i,) recordings or transcripts.
          max_tokens: limit that transcripts are truncated to.

        Returns:
          The sequences, and how many recordings are too `short` for one frame (now without samples) or transcripts
          `empty` (now without tokens) or `cut`.
        """

    @abc.abstractmethod
    def of_batch(self, batch: Batch) -> tuple[Array, Array]:
        """Picks inputs and lengths from a batch of utterances."""

    @abc.abstractmethod
    def __call__(self, inputs: Any, lengths: Int[Array, "B"]) -> Any:
        """Normalises padded inputs.

        Args:
          inputs: waveforms (B, S), float (full scale 1.0) or 16-bit integers, or token ids (B, L).
          lengths: valid samples or tokens per row.
        """

    def batches(
        self,
        sequences: Sequence[np.ndarray],
        *,
        batch_size: int | None = None,
        longest: int | None = None,
        devices: int = 1,
        fill: bool = False,
    ) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Pads sequences to few shapes; see `padded_batches`, with the adapter's limits as defaults."""
        size = self.batch_size if batch_size is None else batch_size
        return padded_batches(sequences, self.shortest_bucket, size, longest or self.longest, devices, fill)
