"""Files of a published checkpoint: finding them in a folder, in the cache or on the hub; fingerprints."""

import hashlib
import os
from pathlib import Path

from emojax.encoders.weight_files import WEIGHT_FILES, shard_files, weight_file
from emojax.errors import CheckpointError, reason
from emojax.files import sha256_of

# Downloaded in this order until the folder has weights, so that a repository's other formats are not downloaded.
_DOWNLOADS = (
    ("README.md", "*.json", "*.txt", "sentencepiece.bpe.model", "model.safetensors", "model-*.safetensors"),
    ("flax_model.msgpack",),
    ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
)
# An index alone would pass for weights.
_NOT_FIRST = ("flax_model*", "pytorch_model*")


def find_folder(name_or_path: str, revision: str | None = None) -> Path:
    """Finds the local folder of a checkpoint: a folder, or a hub name in Hugging Face's cache or on the hub.

    Raises:
      CheckpointError: there is no such folder and the name can neither be downloaded nor found in the cache.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or folder.is_absolute() or str(name_or_path).startswith(("./", "../", "~")):
        raise CheckpointError(f"{name_or_path}: no such folder")
    return _find_in_hub(str(name_or_path), revision)


def _find_in_hub(name: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    for patterns in _DOWNLOADS:
        ignored = list(_NOT_FIRST) if patterns is _DOWNLOADS[0] else None
        try:
            folder = Path(
                huggingface_hub.snapshot_download(
                    name, revision=revision, allow_patterns=list(patterns), ignore_patterns=ignored
                )
            )
        except HFValidationError as error:
            raise CheckpointError(
                f"{name}: neither a folder nor a hub name such as facebook/hubert-base-ls960"
            ) from error
        except LocalEntryNotFoundError as error:
            raise CheckpointError(
                f"{name}: no such folder, not in the Hugging Face cache, and the hub cannot be reached"
            ) from error
        except HfHubHTTPError as error:
            raise CheckpointError(f"{name}: no such folder, and the hub refused it ({reason(error)})") from error
        if weight_file(folder):
            return folder
    raise CheckpointError(f"{name}: the hub has no weights for it (supported: {', '.join(WEIGHT_FILES)})")


_SETTINGS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
)


def checkpoint_fingerprint(name_or_path: str | os.PathLike[str], revision: str | None = None) -> str:
    """Computes the SHA-256 over weights, configuration, pre-processing and tokenizer files, 64 hexadecimal digits.

    The same checkpoint in another folder has the same fingerprint.

    Raises:
      CheckpointError: the checkpoint is absent, or a file cannot be read.
    """
    folder = find_folder(os.fspath(name_or_path), revision)
    weights = weight_file(folder)
    if weights is None:
        raise CheckpointError(f"{folder}: no weights (supported: {', '.join(WEIGHT_FILES)})")
    files = [weights]
    if weights.name.endswith(".index.json"):
        files += list(shard_files(weights))
    files += [folder / name for name in _SETTINGS if (folder / name).is_file()]
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(f"{file.name}\0{sha256_of(file)}\0".encode())
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()
