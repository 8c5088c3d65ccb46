"""Loading of recognizers: the checkpoint determines the kind."""

import os
from pathlib import Path

from emojax.encoders.checkpoint_files import find_folder
from emojax.encoders.families import ComputeOptions
from emojax.encoders.pretrained import load_encoder, read_config
from emojax.encoders.whisper_encoder import padded_encoder
from emojax.errors import CheckpointError, ConfigError
from emojax.recognition.ctc import load_ctc_recognizer
from emojax.recognition.options import DecodingOptions
from emojax.recognition.transcript import Recognizer
from emojax.recognition.whisper import WhisperRecognizer
from emojax.recognition.whisper_checkpoint import load_decoder
from emojax.recognition.whisper_decoder import Heads, WhisperDecoder
from emojax.recognition.whisper_tokens import read_whisper_tokens
from emojax.recognition.window_decoder import WindowDecoder

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
      CheckpointError: as `load_encoder`; the checkpoint has no decoder or CTC head, or no vocabulary; or word times are
        asked for, and it names no attention heads for them.
      ConfigError: the checkpoint does not have the language or task; or `decoding` is given for a CTC checkpoint.
    """
    folder = find_folder(os.fspath(name_or_path), revision)
    _, family = read_config(folder)
    if family.model_type == "whisper":
        return _load_whisper(folder, options, DecodingOptions() if decoding is None else decoding)
    if decoding is not None:
        raise ConfigError(f"decoding must be None for a CTC checkpoint, which {name_or_path} is")
    return load_ctc_recognizer(name_or_path, options, revision=revision)


def _load_whisper(folder: Path, options: ComputeOptions, decoding: DecodingOptions) -> WhisperRecognizer:
    encoder = load_encoder(folder, options)
    module, params = load_decoder(folder, encoder.config, options)
    tokens = read_whisper_tokens(folder, module.config.vocab_size)
    tokens.check(decoding.language, decoding.task)
    if decoding.word_times:
        _check_heads(folder, tokens.alignment_heads, module)
    return WhisperRecognizer(padded_encoder(encoder), WindowDecoder(module, params, tokens, decoding))


def _check_heads(folder: Path, heads: Heads, module: WhisperDecoder) -> None:
    layers, per_layer = module.config.num_layers, module.config.num_heads
    if not heads:
        raise CheckpointError(f"{folder}: must have alignment_heads in generation_config.json for word times")
    for layer, head in heads:
        if layer >= layers or head >= per_layer:
            raise CheckpointError(
                f"{folder}: alignment_heads must be below ({layers}, {per_layer}), got ({layer}, {head})"
            )
