"""Settings of an extraction, and the encoder's inputs of an utterance."""

import collections
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np

from emojax.data import Corpus, open_split
from emojax.data.corpus import read_utterances
from emojax.encoders import Encoder
from emojax.schema import Ge, Gt, Le, MaxLen, MinLen, parse, settings


@settings
class ExtractCorpusConfig:
    """Corpus and splits to read."""

    name: Annotated[str, MinLen(1), "TFDS name of a built corpus: NAME, NAME/CONFIG or NAME/CONFIG:VERSION."] = (
        "msp_podcast"
    )
    data_dir: Annotated[str, "Folder that holds NAME/; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets."] = ""
    splits: Annotated[tuple[str, ...], "Splits to read; empty: all."] = ()


@settings
class ExtractEncoderConfig:
    """Encoder that computes the hidden states."""

    checkpoint: Annotated[
        str, MinLen(1), "Folder or Hugging Face name of a checkpoint of any encoder in docs/encoders.md."
    ] = ""
    revision: Annotated[str, "Branch, tag or commit on the hub; empty: the main branch."] = ""
    dtype: Annotated[Literal["float32", "bfloat16"], "Type of matrix products."] = "float32"
    max_tokens: Annotated[
        int, Ge(1), Le(8192), "Text encoders: tokens that a transcript is cut to, special tokens included."
    ] = 64
    batch_seconds: Annotated[
        float,
        Gt(0),
        Le(10**5),
        "Speech encoders: audio that one device computes at a time (s), padding included; results change by rounding "
        "only.",
    ] = 32.0
    batch_tokens: Annotated[
        int, Ge(1), Le(10**7), "Text encoders: tokens that one device computes at a time, padding included."
    ] = 2048


@settings
class StatesConfig:
    """Which hidden states are stored, and how."""

    layers: Annotated[
        tuple[Annotated[int, Ge(-1000), Le(1000)], ...],
        MinLen(1),
        MaxLen(256),
        "Layers by number: 0 is the input of the first layer, -1 the encoder's last hidden states.",
    ] = (-1,)
    combine: Annotated[Literal["stack", "mean"], 'Of several layers: "stack" stores each, "mean" their mean.'] = "stack"
    pooling: Annotated[
        Literal["none", "mean", "statistics"],
        '"none": every frame or token; else one vector per utterance: the "mean", or "statistics" (mean and standard '
        "deviation, concatenated).",
    ] = "none"
    dtype: Annotated[Literal["float16", "bfloat16", "float32"], "Type of the stored values."] = "float16"


@settings
class ExtractConfig:
    """Everything that determines a feature store."""

    corpus: ExtractCorpusConfig
    encoder: ExtractEncoderConfig
    states: StatesConfig


def parse_extraction(tree: Mapping[str, Any]) -> ExtractConfig:
    """Checks a config tree whole.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    return parse(ExtractConfig, tree)


class EncoderInputs:
    """A split's utterances as an encoder takes them.

    Attributes:
      counts: `empty` transcripts and `cut` ones, recordings too `short` for one frame, of what was read so far.
    """

    def __init__(self, corpus: Corpus, split: str, encoder: Encoder, max_tokens: int):
        """Opens the split; nothing is read yet."""
        self._adapter = encoder.inputs
        self._place = corpus.place(split)
        self._max_tokens = max_tokens
        self._source = open_split(corpus, split)
        self.counts: collections.Counter[str] = collections.Counter()

    def read(self, first: int, end: int) -> list[np.ndarray]:
        """Waveforms int16 (S_i,) or tokens int32 (L_i,) of the utterances first, ..., end - 1.

        An empty transcript has no tokens; a longer one than allowed is cut as training cuts it. A recording too short
        for one frame has no samples.

        Raises:
          CorpusError: an utterance cannot be read; the message names it.
        """
        adapter = self._adapter
        examples = read_utterances(self._source, range(first, end), self._place, audio=adapter.field == "audio")
        sequences, counts = adapter.prepare_utterances(
            [example[adapter.field] for example in examples], self._max_tokens
        )
        self.counts.update(counts)
        return sequences
