"""Files of a published checkpoint: where they are, what identifies them, how a copy is written."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from emojax.encoders.encoder import Encoder
from emojax.encoders.registry import family_of
from emojax.encoders.tensor_table import invert
from emojax.encoders.weight_files import StoredTensor, read_flax, read_safetensors, read_torch
from emojax.errors import CheckpointError, reason
from emojax.files import atomic_write, read_json_object, sha256_of

WEIGHT_FILES = {
    "model.safetensors": read_safetensors,
    "model.safetensors.index.json": read_safetensors,
    "flax_model.msgpack": read_flax,
    "pytorch_model.bin": read_torch,
    "pytorch_model.bin.index.json": read_torch,
}
"""Weight files in order of preference and what reads them; an index names the shards that lie beside it."""

# Downloaded in this order until a folder has weights, so that a repository's other formats are not fetched.
_DOWNLOADS = (
    ("README.md", "*.json", "*.txt", "model.safetensors", "model-*.safetensors"),
    ("flax_model.msgpack",),
    ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
)
# An index alone would look like weights.
_NOT_FIRST = ("flax_model*", "pytorch_model*")


def find_folder(name_or_path: str, revision: str | None = None) -> Path:
    """The local folder of a checkpoint: a folder as it is, a hub name from Hugging Face's cache or the hub.

    Raises:
      CheckpointError: there is no such folder and the name can neither be downloaded nor found in the cache.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or folder.is_absolute() or str(name_or_path).startswith(("./", "../", "~")):
        raise CheckpointError(f"{name_or_path}: no such folder")
    return _find_in_hub(str(name_or_path), revision)


def weight_file(folder: Path) -> Path | None:
    """The preferred weight file of a folder, or None."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def read_tensors(folder: Path) -> tuple[Path, Mapping[str, StoredTensor]]:
    """The weight file of a folder and its tensors by published name; values are read later.

    Raises:
      CheckpointError: there is no weight file, it is damaged, or a shard its index names is absent.
    """
    file = weight_file(folder)
    if file is None:
        raise CheckpointError(f"{folder}: no weights; allowed: {', '.join(WEIGHT_FILES)}")
    read = WEIGHT_FILES[file.name]
    return file, _read_shards(file, read) if file.name.endswith(".index.json") else read(file)


def shard_files(index: Path) -> dict[Path, frozenset[str]]:
    """The shards an index names, all of them beside it, and the tensors it places in each.

    Raises:
      CheckpointError: it names none, or one that is not beside it.
    """
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise CheckpointError(f"{index}: has no weight_map from tensor names to files")
    shards: dict[Path, frozenset[str]] = {}
    for shard in sorted(set(places.values())):
        file = index.parent / shard
        if Path(shard).name != shard or not file.is_file():
            raise CheckpointError(f"{index}: names the shard {shard}, which is not beside it")
        shards[file] = frozenset(name for name, place in places.items() if place == shard)
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
    raise CheckpointError(f"{name}: the hub has no weights for it; allowed: {', '.join(WEIGHT_FILES)}")


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


def save_encoder(encoder: Encoder, folder: str | os.PathLike[str], *, weights: bool = True) -> None:
    """Writes `model.safetensors`, `config.json` and the files of the pre-processing.

    `transformers.AutoModel.from_pretrained(folder)` gives the PyTorch model with the same outputs.

    Args:
      encoder: parameters on any device; they are written as float32.
      folder: made if absent; files of the same names are replaced.
      weights: False leaves `model.safetensors` out.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    family = family_of(encoder.config)
    if weights:
        table = family.tensor_table(encoder.config, encoder.module.scan_layers)
        tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in invert(encoder.params, table)}
        with atomic_write(target / "model.safetensors") as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
    config = {**encoder.config, "architectures": [family.architecture]}
    # Both spellings of the type the tensors had where they came from.
    config = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    (target / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8")
    encoder.preprocess.save(target)
