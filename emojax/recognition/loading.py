"""Loading of recognizers: the checkpoint determines the kind."""

import os

from emojax.encoders.checkpoint_files import find_folder
from emojax.encoders.families import ComputeOptions
from emojax.encoders.pretrained import read_config
from emojax.errors import ConfigError
from emojax.recognition.ctc import load_ctc_recognizer
from emojax.recognition.options import DecodingOptions
from emojax.recognition.transcript import Recognizer
from emojax.recognition.whisper import load_whisper_recognizer

_DEFAULT_OPTIONS = ComputeOptions()


def load_recognizer(
    name_or_path: str | os.PathLike[str],
    options: ComputeOptions = _DEFAULT_OPTIONS,
    *,
    decoding: DecodingOptions | None = None,
    revision: str | None = None,
) -> Recognizer:
    """Loads a checkpoint for recognition: Whisper with its decoder, or a speech encoder with a CTC head.

    Args:
      name_or_path: a folder, or a name on the Hugging Face hub, looked up in the cache when offline.
      options: how the modules compute.
      decoding: options of decoding with Whisper; None: the defaults.
      revision: branch, tag or commit on the hub; the main branch if not given.

    Raises:
      CheckpointError: as `load_encoder`; or the checkpoint has no decoder or CTC head, or no vocabulary.
      ConfigError: the checkpoint does not have the language or task; or `decoding` is given for a CTC checkpoint.
    """
    _, family = read_config(find_folder(os.fspath(name_or_path), revision))
    if family.model_type == "whisper":
        given = DecodingOptions() if decoding is None else decoding
        return load_whisper_recognizer(name_or_path, options, decoding=given, revision=revision)
    if decoding is not None:
        raise ConfigError(f"decoding must be None for a CTC checkpoint, which {name_or_path} is")
    return load_ctc_recognizer(name_or_path, options, revision=revision)
