"""Inputs of Whisper encoders: checked waveforms, and log-mel features equal to those of `WhisperFeatureExtractor`."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from emojax.audio import LogMelConfig, log_mel
from emojax.encoders.waveform_inputs import PREPROCESSOR_FILE, WaveformInputs, WaveformSettings
from emojax.errors import AudioError, CheckpointError
from emojax.files import read_json_object
from emojax.schema import Ge, Le, parse, settings
from emojax.types import SAMPLE_RATE

WINDOW = 400
"""Samples of one mel frame (25 ms), and of the shortest input."""

HOP = 160
"""Samples between two mel frames (10 ms)."""

SAMPLES_PER_FRAME = 2 * HOP
"""Samples between two hidden states (20 ms): the second convolution has stride 2."""

FLOOR = 1e-10
RANGE = 8.0
"""Range of the features below their maximum, in powers of ten of the energy."""


@settings
class WhisperSettings:
    """Keys of `preprocessor_config.json` that are read; defaults are those of `WhisperFeatureExtractor`.

    Attributes:
      feature_size: mel bands; equal to `num_mel_bins` of `config.json`.
      sampling_rate: Hz.
      hop_length: samples between two mel frames.
      n_fft: samples of one mel frame, and size of its Fourier transform.
      dither: 0, no noise is added.
      do_normalize: False, the waveform is not normalised.
    """

    feature_size: Literal[80, 128] = 80
    sampling_rate: Literal[16_000] = 16_000
    hop_length: Literal[160] = 160
    n_fft: Literal[400] = 400
    dither: Annotated[float, Ge(0), Le(0)] = 0.0
    do_normalize: Literal[False] = False


def default_settings(num_bands: int) -> dict[str, Any]:
    """Content of `preprocessor_config.json` for `num_bands` mel bands, as published."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": num_bands,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": HOP,
        "n_fft": WINDOW,
        "chunk_length": 30,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class WhisperInputs(WaveformInputs):
    """Waveforms at 16 kHz of at most 30 s; the encoder computes its log-mel features itself."""

    @classmethod
    def of(cls, sizes: Any, content: Mapping[str, Any] | None = None) -> "WhisperInputs":
        """Makes an adapter from the content of a `preprocessor_config.json`; None: the published settings."""
        content = default_settings(sizes.num_bands) if content is None else content
        return cls(WINDOW, WaveformSettings(do_normalize=False), content, sizes.max_samples)

    @classmethod
    def read(cls, folder: Path, sizes: Any) -> "WhisperInputs":
        """Reads `preprocessor_config.json` or `processor_config.json`; the published settings where neither exists."""
        file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
        if file is None:
            return cls.of(sizes)
        content = read_json_object(file)
        content = content.get("feature_extractor", content)
        found = parse(WhisperSettings, content, str(file), error=CheckpointError, unknown="ignore", missing="default")
        if found.feature_size != sizes.num_bands:
            raise CheckpointError(
                f"{file}: feature_size must be num_mel_bins of config.json ({sizes.num_bands}), got "
                f"{found.feature_size}"
            )
        return cls.of(sizes, content)

    @classmethod
    def resolution(cls, sizes: Any, max_tokens: int) -> dict[str, int | None]:
        """Samples between two hidden states: 320 (20 ms)."""
        return {"max_tokens": None, "samples_per_frame": SAMPLES_PER_FRAME}

    def _checked(self, item: Any, label: str) -> Float32[np.ndarray, "S"]:
        waveform = super()._checked(item, label)
        if self.longest is not None and len(waveform) > self.longest:
            raise AudioError(
                f"{label}: must have at most {self.longest} samples ({self.longest / SAMPLE_RATE:g} s), got "
                f"{len(waveform)}; divide it"
            )
        return waveform


_FILES = (PREPROCESSOR_FILE, "processor_config.json")


def whisper_log_mel(
    waveform: Float[Array, "B S"], num_samples: Int[Array, "B"], num_bands: int
) -> tuple[Float[Array, "B T K"], Bool[Array, "B T"]]:
    """Computes the features of Radford et al. 2023, section 2.2, as `WhisperFeatureExtractor` does for each clip alone.

    Base-10 logarithms of Slaney mel energies in frames of 25 ms centred every 10 ms, with the waveform reflected at
    both ends of the clip; limited to 8 below the maximum over the clip's own frames; shifted and scaled to about
    -1 ... 1.

    Args:
      waveform: 16 kHz, zero after `num_samples`; S is at least 400.
      num_samples: valid samples per row; at least 400, or 0 for a row without a frame.
      num_bands: K.

    Returns:
      Features of T = S // 160 frames, 0 after those of the clip, and their mask: `num_samples // 160` valid frames.
    """
    half, beyond = WINDOW // 2, WINDOW // 2 - HOP  # The last frame is centred at least one hop before the end.
    total = waveform.shape[1] // HOP
    waveform = _reflect_end(jnp.pad(waveform, ((0, 0), (0, beyond))), num_samples, beyond)
    waveform = jnp.concatenate([jnp.flip(waveform[:, 1 : half + 1], axis=1), waveform], axis=1)
    energies = log_mel(waveform, whisper_filterbank(num_bands))[:, :total] / math.log(10)
    mask = jnp.arange(energies.shape[1]) < (num_samples // HOP)[:, None]
    valid = mask[..., None]
    maximum = jnp.where(valid, energies, math.log10(FLOOR)).max(axis=(1, 2), keepdims=True)
    return jnp.where(valid, (jnp.maximum(energies, maximum - RANGE) + 4.0) / 4.0, 0.0), mask


def whisper_filterbank(num_bands: int) -> LogMelConfig:
    """Filterbank of the features, for `log_mel` on the clip reflected at both ends."""
    return LogMelConfig(
        num_bands=num_bands,
        window_ms=1000 * WINDOW / SAMPLE_RATE,
        hop_ms=1000 * HOP / SAMPLE_RATE,
        fft_size=WINDOW,
        low_hz=0.0,
        high_hz=SAMPLE_RATE / 2,
        mel_scale="slaney",
        mel_norm="slaney",
        floor=FLOOR,
    )


def _reflect_end(waveform: Float[Array, "B S"], num_samples: Int[Array, "B"], count: int) -> Float[Array, "B S"]:
    """Writes `count` samples after the end of each clip: those before its last sample, in reverse order."""

    def reflect(row: Array, end: Array) -> Array:
        before = jax.lax.dynamic_slice_in_dim(row, end - 1 - count, count)
        return jax.lax.dynamic_update_slice_in_dim(row, jnp.flip(before), end, axis=0)

    return jax.vmap(reflect)(waveform, num_samples)
