"""What comes before an encoder: waveform normalisation, as a pure function of arrays, or tokenization of text."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emojax.errors import CheckpointError, CorpusError, reason
from emojax.files import read_json_object
from emojax.types import SAMPLE_RATE

_VARIANCE_FLOOR = 1e-7

_STD_FLOOR = 1e-6
"""What the Odyssey 2024 models add to the standard deviation of their training data."""

_VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


@dataclasses.dataclass(frozen=True, eq=False)
class WaveformPreprocess:
    """Pre-processing of a speech encoder: `preprocess(waveform, num_samples)` may be called inside `jax.jit`.

    Attributes:
      normalize: whether every waveform is brought to zero mean and unit variance (`do_normalize`).
      settings: content of `preprocessor_config.json`, kept for export. `waveform_mean` and `waveform_std` in it are
        those of the training data of models that normalise by them.
    """

    normalize: bool
    settings: Mapping[str, Any]

    def __call__(self, waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]) -> Float[Array, "B S"]:
        """Waveforms as the encoder takes them, float32, zero after `num_samples`.

        Args:
          waveform: 16 kHz mono, full scale 1.0.
          num_samples: valid samples per row.
        """
        mask = jnp.arange(waveform.shape[1]) < num_samples[:, None]
        waveform = jnp.where(mask, waveform.astype(jnp.float32), 0.0)
        if not self.normalize:
            if "waveform_std" not in self.settings:
                return waveform
            mean, std = self.settings["waveform_mean"], self.settings["waveform_std"] + _STD_FLOOR
            return jnp.where(mask, (waveform - mean) / std, 0.0)
        count = jnp.maximum(num_samples, 1)[:, None].astype(jnp.float32)
        centred = jnp.where(mask, waveform - waveform.sum(axis=1, keepdims=True) / count, 0.0)
        variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
        return centred / jnp.sqrt(variance + _VARIANCE_FLOOR)

    def save(self, folder: Path) -> None:
        """Writes `preprocessor_config.json`."""
        (folder / "preprocessor_config.json").write_text(json.dumps(dict(self.settings), indent=2) + "\n")


@dataclasses.dataclass(frozen=True, eq=False)
class TextPreprocess:
    """Pre-processing of a text encoder: `preprocess(texts)` gives token ids.

    Attributes:
      tokenizer: a tokenizer of transformers.
      max_tokens: the longest sequence the encoder takes, special tokens included.
    """

    tokenizer: Any
    max_tokens: int

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids, int32 (L_i,), special tokens included.

        Raises:
          CorpusError: a text is longer than the encoder takes.
        """
        # `verbose=False`: transformers' own warning about the length would come before our error.
        tokenized = self.tokenizer(list(texts), padding=False, truncation=False, verbose=False)["input_ids"]
        for index, tokens in enumerate(tokenized):
            if len(tokens) > self.max_tokens:
                raise CorpusError(
                    f"text {index} has {len(tokens)} tokens; allowed: at most {self.max_tokens} "
                    f"(it starts: {texts[index][:40]!r})"
                )
        return [np.asarray(tokens, np.int32) for tokens in tokenized]

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files."""
        self.tokenizer.save_pretrained(folder)


def read_waveform_preprocess(folder: Path) -> WaveformPreprocess:
    """Pre-processing from `preprocessor_config.json`, or from the `processor_config.json` newer checkpoints have.

    Raises:
      CheckpointError: neither is there, or it asks for another sample rate or other features than the waveform.
    """
    file, joint = folder / "preprocessor_config.json", folder / "processor_config.json"
    if not file.is_file() and joint.is_file():
        file = joint
    settings = read_json_object(file)
    return waveform_preprocess(settings.get("feature_extractor", settings), str(file))


def waveform_preprocess(settings: Mapping[str, Any], place: str) -> WaveformPreprocess:
    """Pre-processing as `settings`, the content of a `preprocessor_config.json`, ask for.

    Raises:
      CheckpointError: they ask for another sample rate or other features than the waveform; it names the place.
    """
    for key, allowed in (("sampling_rate", SAMPLE_RATE), ("feature_size", 1)):
        if settings.get(key, allowed) != allowed:
            raise CheckpointError(f"{place}: {key}: {settings[key]!r} is not supported; allowed: {allowed}")
    return WaveformPreprocess(bool(settings.get("do_normalize", True)), settings)


def read_text_preprocess(folder: Path, vocab_size: int, max_tokens: int) -> TextPreprocess:
    """Tokenization from the tokenizer files of a folder.

    Raises:
      CheckpointError: there are none, or they know more tokens than the encoder has embeddings.
    """
    from transformers import AutoTokenizer

    # Without any of them transformers makes a tokenizer that maps every word to the unknown token.
    if not any((folder / name).is_file() for name in _VOCABULARY_FILES):
        raise CheckpointError(f"{folder}: no tokenizer; allowed: {', '.join(_VOCABULARY_FILES)} (with merges.txt)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({reason(error)})") from error
    if len(tokenizer) > vocab_size:
        raise CheckpointError(f"{folder}: the tokenizer knows {len(tokenizer)} tokens, the encoder {vocab_size}")
    return TextPreprocess(tokenizer, max_tokens)
