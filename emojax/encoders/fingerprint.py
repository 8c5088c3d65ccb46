"""A checkpoint's identity: a hash of every file that decides what an encoder computes."""

import hashlib
import os

from emojax.encoders.checkpoint_files import WEIGHT_FILES, find_folder, shard_files, weight_file
from emojax.errors import CheckpointError
from emojax.files import sha256_of

_SETTINGS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def checkpoint_fingerprint(name_or_path: str | os.PathLike[str], revision: str | None = None) -> str:
    """SHA-256 over weights, configuration, pre-processing and tokenizer files, 64 hexadecimal digits.

    The same checkpoint in another folder has the same fingerprint.

    Raises:
      CheckpointError: the checkpoint is absent, or a file cannot be read.
    """
    folder = find_folder(os.fspath(name_or_path), revision)
    weights = weight_file(folder)
    if weights is None:
        raise CheckpointError(f"{folder}: no weights; allowed: {', '.join(WEIGHT_FILES)}")
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
