"""Input adapters: how recordings or texts become the arrays an encoder computes on.

A family of encoders names its adapter class; everything that differs between waveforms and tokens (reading settings,
checking items, padding, normalisation, lengths) is a method or attribute of the adapter.
"""

import abc
import collections
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from emojax.audio import check_samples
from emojax.bucketing import padded_batches
from emojax.errors import AudioError, CheckpointError, CorpusError
from emojax.files import read_json_object
from emojax.schema import Gt, parse, settings
from emojax.tokenizer import as_texts, load_tokenizer
from emojax.types import SAMPLE_RATE, Batch

PREPROCESSOR_FILE = "preprocessor_config.json"

VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
"""Files of which a tokenizer needs one; `vocab.json` goes with `merges.txt`."""

_FULL_SCALE = 2**15
"""Of 16-bit samples."""

_VARIANCE_FLOOR = 1e-7

_STD_FLOOR = 1e-6
"""What the Odyssey 2024 models add to the standard deviation of their training data."""


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
          AudioError: an item is no mono floating-point waveform, has samples that are not finite or far above full
            scale, or is too short for one frame.
          CorpusError: an item is no text or has more tokens than the encoder takes.
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


@settings
class WaveformSettings:
    """Keys of `preprocessor_config.json` that are read; defaults are those of `Wav2Vec2FeatureExtractor`.

    Attributes:
      do_normalize: whether every waveform is normalised to zero mean and unit variance.
      sampling_rate: Hz.
      feature_size: 1, the waveform itself.
      waveform_mean: mean of the training data, for models that normalise by it.
      waveform_std: standard deviation of the training data; None: no normalisation by it.
    """

    do_normalize: bool = True
    sampling_rate: Literal[16_000] = 16_000
    feature_size: Literal[1] = 1
    waveform_mean: float = 0.0
    waveform_std: Annotated[float, Gt(0)] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class WaveformInputs(InputAdapter):
    """Waveforms at 16 kHz, normalised as the checkpoint's feature extractor does.

    Attributes:
      min_samples: receptive field of the convolutions.
      settings: settings in use.
      content: whole content of `preprocessor_config.json`, kept for export.
    """

    modality: ClassVar[Literal["speech", "text"]] = "speech"
    field: ClassVar[Literal["audio", "transcript"]] = "audio"
    shortest_bucket: ClassVar[int] = SAMPLE_RATE
    batch_size: ClassVar[int] = 32 * SAMPLE_RATE

    min_samples: int
    settings: WaveformSettings
    content: Mapping[str, Any]
    longest: int | None = None

    @classmethod
    def of(cls, sizes: Any, content: Mapping[str, Any] | None = None) -> "WaveformInputs":
        """Makes an adapter from the content of a `preprocessor_config.json`; None: the defaults."""
        content = {} if content is None else content
        return cls(sizes.convolution.receptive_field, parse_waveform_settings(content, PREPROCESSOR_FILE), content)

    @classmethod
    def read(cls, folder: Path, sizes: Any) -> "WaveformInputs":
        """Reads `preprocessor_config.json`, or the `processor_config.json` newer checkpoints have."""
        return cls.of(sizes, read_waveform_settings(folder))

    def save(self, folder: Path) -> None:
        """Writes `preprocessor_config.json`."""
        content = json.dumps(dict(self.content), indent=2)
        (folder / PREPROCESSOR_FILE).write_text(content + "\n", encoding="utf-8")

    @classmethod
    def example(cls) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """One second, the longest receptive field a config may have."""
        return jax.ShapeDtypeStruct((1, SAMPLE_RATE), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)

    @classmethod
    def resolution(cls, sizes: Any, max_tokens: int) -> dict[str, int | None]:
        """Samples between two frames: 320 (20 ms) in all published models."""
        return {"max_tokens": None, "samples_per_frame": sizes.convolution.samples_per_frame}

    def prepare(self, items: Any) -> list[Float32[np.ndarray, "S"]]:
        """Checks waveforms, float (S_i,), 16 kHz mono, full scale 1.0."""
        return [self._checked(item, f"item {index}") for index, item in enumerate(items)]

    def _checked(self, item: Any, label: str) -> Float32[np.ndarray, "S"]:
        kind = getattr(item, "dtype", None)
        if kind is None or np.ndim(item) != 1 or not jnp.issubdtype(kind, jnp.floating):
            found = f"of type {type(item).__name__}" if kind is None else f"{kind} of shape {np.shape(item)}"
            raise AudioError(f"{label}: {found}; allowed: a floating-point array of shape (samples,), 16 kHz mono")
        if np.ma.is_masked(item):
            raise AudioError(f"{label}: has masked samples; allowed: an array without, e.g. array.filled(0)")
        waveform = np.asarray(item)
        check_samples(waveform, label)
        if len(waveform) < self.min_samples:
            raise AudioError(
                f"{label}: {len(waveform)} samples are too short for one frame; allowed: at least {self.min_samples}"
            )
        return waveform.astype(np.float32, copy=False)

    def prepare_utterances(
        self, items: list[Any], max_tokens: int
    ) -> tuple[list[np.ndarray], collections.Counter[str]]:
        """Drops the samples of recordings that are too short for one frame."""
        long_enough = [len(audio) >= self.min_samples for audio in items]
        sequences = [audio if taken else audio[:0] for audio, taken in zip(items, long_enough, strict=True)]
        return sequences, collections.Counter(short=long_enough.count(False))

    def of_batch(self, batch: Batch) -> tuple[Array, Array]:
        """Waveforms and their lengths."""
        return batch.waveform, batch.num_samples

    def __call__(
        self, inputs: Float[Array, "B S"] | Int[Array, "B S"], lengths: Int[Array, "B"]
    ) -> Float32[Array, "B S"]:
        """Normalises waveforms; the result is zero after `lengths`."""
        mask = jnp.arange(inputs.shape[1]) < lengths[:, None]
        waveform = inputs.astype(jnp.float32)
        if jnp.issubdtype(inputs.dtype, jnp.integer):
            waveform = waveform / _FULL_SCALE
        waveform = jnp.where(mask, waveform, 0.0)
        if not self.settings.do_normalize:
            if self.settings.waveform_std is None:
                return waveform
            mean, std = self.settings.waveform_mean, self.settings.waveform_std + _STD_FLOOR
            return jnp.where(mask, (waveform - mean) / std, 0.0)
        count = jnp.maximum(lengths, 1)[:, None].astype(jnp.float32)
        centred = jnp.where(mask, waveform - waveform.sum(axis=1, keepdims=True) / count, 0.0)
        variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
        return centred / jnp.sqrt(variance + _VARIANCE_FLOOR)


def read_waveform_settings(folder: Path) -> Mapping[str, Any]:
    """Reads the checked content of `preprocessor_config.json`, or of the newer `processor_config.json`.

    Raises:
      CheckpointError: neither exists, or it has another sample rate or other features than the waveform.
    """
    file, joint = folder / PREPROCESSOR_FILE, folder / "processor_config.json"
    if not file.is_file() and joint.is_file():
        file = joint
    content = read_json_object(file)
    content = content.get("feature_extractor", content)
    parse_waveform_settings(content, str(file))
    return content


def parse_waveform_settings(content: Any, label: str) -> WaveformSettings:
    """Checks the content of a `preprocessor_config.json`.

    Args:
      content: content of the file.
      label: name of the file in error messages.

    Raises:
      CheckpointError: it has another sample rate or other features than the waveform.
    """
    return parse(WaveformSettings, content, label, error=CheckpointError, unknown="ignore", missing="default")


@dataclasses.dataclass(frozen=True, eq=False)
class TokenInputs(InputAdapter):
    """Token ids of texts.

    Attributes:
      longest: longest sequence the encoder takes, special tokens included.
      tokenizer: tokenizer of transformers; None where no files were read.
    """

    modality: ClassVar[Literal["speech", "text"]] = "text"
    field: ClassVar[Literal["audio", "transcript"]] = "transcript"
    shortest_bucket: ClassVar[int] = 16
    batch_size: ClassVar[int] = 2_048

    longest: int
    tokenizer: Any = None
    min_samples: int = 0

    @classmethod
    def of(cls, sizes: Any) -> "TokenInputs":
        """Makes an adapter without a tokenizer, for token ids."""
        return cls(sizes.max_tokens)

    @classmethod
    def read(cls, folder: Path, sizes: Any) -> "TokenInputs":
        """Reads the tokenizer, which must not have more tokens than the encoder embeddings."""
        # Without any of them transformers makes a tokenizer that maps every word to the unknown token.
        if not any((folder / name).is_file() for name in VOCABULARY_FILES):
            raise CheckpointError(f"{folder}: no tokenizer; allowed: {', '.join(VOCABULARY_FILES)} (with merges.txt)")
        tokenizer = load_tokenizer(str(folder), CheckpointError)
        largest = max(tokenizer.get_vocab().values(), default=-1)
        if max(len(tokenizer), largest + 1) > sizes.vocab_size:
            tokens = f"{len(tokenizer)} tokens" if largest < len(tokenizer) else f"the token id {largest}"
            raise CheckpointError(f"{folder}: the tokenizer has {tokens}, the encoder {sizes.vocab_size} embeddings")
        return cls(sizes.max_tokens, tokenizer)

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files."""
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def example(cls) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Two tokens."""
        return jax.ShapeDtypeStruct((1, 2), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)

    @classmethod
    def resolution(cls, sizes: Any, max_tokens: int) -> dict[str, int | None]:
        """Tokens at most."""
        return {"max_tokens": max_tokens, "samples_per_frame": None}

    def prepare(self, items: Any) -> list[Int[np.ndarray, "L"]]:
        """Tokenizes texts; one text is a list of one."""
        texts = as_texts(items)
        if not texts:
            return []
        # `verbose=False`: transformers' own warning about the length would come before our error.
        tokenized = self.tokenizer(texts, padding=False, truncation=False, verbose=False)["input_ids"]
        for index, tokens in enumerate(tokenized):
            if len(tokens) > self.longest:
                raise CorpusError(
                    f"text {index} has {len(tokens)} tokens; allowed: at most {self.longest} "
                    f"(it starts: {texts[index][:40]!r})"
                )
        return [np.asarray(tokens, np.int32) for tokens in tokenized]

    def prepare_utterances(
        self, items: list[Any], max_tokens: int
    ) -> tuple[list[np.ndarray], collections.Counter[str]]:
        """Tokenizes transcripts and truncates them as training does; an empty one has no tokens."""
        limit = min(max_tokens, self.longest)
        whole = self.tokenizer(items, verbose=False)["input_ids"]
        within = self.tokenizer(items, truncation=True, max_length=limit)["input_ids"]
        counts = collections.Counter(
            cut=sum(len(tokens) > limit for tokens in whole), empty=sum(not text.strip() for text in items)
        )
        pairs = zip(items, within, strict=True)
        return [np.asarray(tokens if text.strip() else [], np.int32) for text, tokens in pairs], counts

    def of_batch(self, batch: Batch) -> tuple[Array, Array]:
        """Token ids and their numbers."""
        return batch.tokens, batch.num_tokens

    def __call__(self, inputs: Int[Array, "B L"], lengths: Int[Array, "B"]) -> Int[Array, "B L"]:
        """Returns the token ids as they are."""
        return inputs
