"""Input adapter of speech encoders: checked waveforms, normalised as `Wav2Vec2FeatureExtractor` does."""

import collections
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from emojax.audio import check_samples
from emojax.encoders.inputs import InputAdapter
from emojax.errors import AudioError, CheckpointError
from emojax.files import read_json_object
from emojax.schema import Gt, parse, settings
from emojax.types import SAMPLE_RATE, Batch

PREPROCESSOR_FILE = "preprocessor_config.json"

_FULL_SCALE = 2**15
"""Of 16-bit samples."""

VARIANCE_FLOOR = 1e-7

STD_FLOOR = 1e-6
"""Added to the standard deviation of their training data by the Odyssey 2024 models."""


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
            found = f"an object of type {type(item).__name__}" if kind is None else f"{kind} of shape {np.shape(item)}"
            raise AudioError(f"{label}: must be a floating-point array of shape (samples,), 16 kHz mono, got {found}")
        if np.ma.is_masked(item):
            raise AudioError(f"{label}: has masked samples; use e.g. array.filled(0)")
        waveform = np.asarray(item)
        check_samples(waveform, label)
        if len(waveform) < self.min_samples:
            raise AudioError(f"{label}: must have at least {self.min_samples} samples (one frame), got {len(waveform)}")
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
            mean, std = self.settings.waveform_mean, self.settings.waveform_std + STD_FLOOR
            return jnp.where(mask, (waveform - mean) / std, 0.0)
        count = jnp.maximum(lengths, 1)[:, None].astype(jnp.float32)
        centred = jnp.where(mask, waveform - waveform.sum(axis=1, keepdims=True) / count, 0.0)
        variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
        return centred / jnp.sqrt(variance + VARIANCE_FLOOR)


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
