"""Writes an encoder as a folder that transformers loads."""

import json
import os
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from emojax.encoders.encoder import Encoder
from emojax.encoders.registry import family_of
from emojax.encoders.tensor_table import invert
from emojax.files import atomic_write


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
