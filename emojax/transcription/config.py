"""Settings of a transcription."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.extraction.config import ExtractCorpusConfig
from emojax.recognition import DecodingOptions
from emojax.schema import MinLen, parse, settings


@settings
class RecognizerConfig:
    """Recognizer of speech."""

    checkpoint: Annotated[
        str,
        MinLen(1),
        "Folder, `package:NAME/FOLDER` or Hugging Face name of a Whisper checkpoint, or of a speech encoder with a CTC "
        "head; `decoding` is for Whisper alone.",
    ] = ""
    revision: Annotated[str, "Branch, tag or commit on the hub; empty: the main branch."] = ""
    dtype: Annotated[Literal["float32", "bfloat16"], "Type of matrix products."] = "float32"
    decoding: DecodingOptions = DecodingOptions()


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
