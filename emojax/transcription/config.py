"""Settings of a transcription."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.extraction.config import ExtractCorpusConfig
from emojax.schema import Ge, Le, MinLen, parse, settings


@settings
class RecognizerConfig:
    """Recognizer of speech."""

    checkpoint: Annotated[
        str, MinLen(1), "Folder or Hugging Face name of a checkpoint that `emojax.recognition.load_recognizer` loads."
    ] = ""
    revision: Annotated[str, "Branch, tag or commit on the hub; empty: the main branch."] = ""
    dtype: Annotated[Literal["float32", "bfloat16"], "Type of matrix products."] = "float32"
    batch_size: Annotated[
        int, Ge(1), Le(4096), "Utterances, of similar length, that are given to the recognizer at a time."
    ] = 16


@settings
class TranscribeConfig:
    """Everything that determines a store of transcripts."""

    corpus: ExtractCorpusConfig
    recognizer: RecognizerConfig


def parse_transcription(tree: Mapping[str, Any]) -> TranscribeConfig:
    """Converts a config tree.

    Raises:
      ConfigError: one line with the key, the constraint and the value.
    """
    return parse(TranscribeConfig, tree)
