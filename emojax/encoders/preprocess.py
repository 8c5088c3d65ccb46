"""What comes before an encoder: waveform normalisation, as a pure function of arrays, or tokenization of text."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emojax.errors import CheckpointError, CorpusError
from emojax.files import read_json_object
from emojax.schema import Gt, parse, settings
from emojax.tokenizer import as_texts, load_tokenizer

_VARIANCE_FLOOR = 1e-7

_STD_FLOOR = 1e-6
"""What the Odyssey 2024 models add to the standard deviation of their training data."""

_VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


@settings
class WaveformSettings:
    """What is read of a `preprocessor_config.json`, by its names; defaults are those of `Wav2Vec2FeatureExtractor`.

    Attributes:
      do_normalize: whether every waveform is brought to zero mean and unit variance.
      sampling_rate: Hz.
      feature_size: 1, the waveform itself.
      waveform_mean: of the training data of models that normalise by it.
      waveform_std: of the same; None: not normalised by it.
    """

    do_normalize: bool = True
    sampling_rate: Literal[16_000] = 16_000
    feature_size: Literal[1] = 1
    waveform_mean: float = 0.0
    waveform_std: Annotated[float, Gt(0)] | None = None


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
        content = json.dumps(dict(self.settings), indent=2)
        (folder / "preprocessor_config.json").write_text(content + "\n", encoding="utf-8")


@dataclasses.dataclass(frozen=True, eq=False)
class TextPreprocess:
    """Pre-processing of a text encoder: `preprocess(texts)` gives token ids.

    Attributes:
      tokenizer: a tokenizer of transformers.
      max_tokens: the longest sequence the encoder takes, special tokens included.
    """

    tokenizer: Any
    max_tokens: int

    def __call__(self, texts: str | Sequence[str]) -> list[np.ndarray]:
        """Token ids, int32 (L_i,), special tokens included; one text is a list of one.

        Raises:
          CorpusError: an item is no text, or a text is longer than the encoder takes.
        """
        texts = as_texts(texts)
        # `verbose=False`: transformers' own warning about the length would come before our error.
        tokenized = self.tokenizer(texts, padding=False, truncation=False, verbose=False)["input_ids"]
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
    content = read_json_object(file)
    return waveform_preprocess(content.get("feature_extractor", content), str(file))


def waveform_preprocess(content: Any, place: str) -> WaveformPreprocess:
    """Pre-processing as the content of a `preprocessor_config.json` asks for.

    Raises:
      CheckpointError: it asks for another sample rate or other features than the waveform; it names the place.
    """
    found = parse(WaveformSettings, content, place, error=CheckpointError, unknown="ignore", missing="default")
    return WaveformPreprocess(found.do_normalize, content)


def read_text_preprocess(folder: Path, vocab_size: int, max_tokens: int) -> TextPreprocess:
    """Tokenization from the tokenizer files of a folder.

    Raises:
      CheckpointError: there are none, or they know more tokens than the encoder has embeddings.
    """
    # Without any of them transformers makes a tokenizer that maps every word to the unknown token.
    if not any((folder / name).is_file() for name in _VOCABULARY_FILES):
        raise CheckpointError(f"{folder}: no tokenizer; allowed: {', '.join(_VOCABULARY_FILES)} (with merges.txt)")
    tokenizer = load_tokenizer(str(folder), CheckpointError)
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if max(len(tokenizer), largest + 1) > vocab_size:
        tokens = f"knows {len(tokenizer)} tokens" if largest < len(tokenizer) else f"has the token id {largest}"
        raise CheckpointError(f"{folder}: the tokenizer {tokens}, the encoder {vocab_size} embeddings")
    return TextPreprocess(tokenizer, max_tokens)
