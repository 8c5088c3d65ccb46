"""The command `--mode=export`: writes the files of a format after each was compared with the model on recordings."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from emojax.errors import CheckpointError, ConfigError
from emojax.export.card import render_export_card
from emojax.export.clips import read_clips
from emojax.export.description import check_waveform_model, describe
from emojax.export.files import Export, Source
from emojax.export.huggingface import export_huggingface
from emojax.export.onnx_files import export_onnx
from emojax.export.stablehlo import export_stablehlo
from emojax.export.web import export_web
from emojax.files import atomic_write, is_vacant
from emojax.inference import Predictor
from emojax.parallel import MeshConfig, make_mesh
from emojax.workdir import holds, restore_model

FORMATS: Mapping[str, Callable[[Source], Export]] = {
    "onnx": export_onnx,
    "stablehlo": export_stablehlo,
    "huggingface": export_huggingface,
    "web": export_web,
}
"""Formats by name: each writes and compares its files."""


@holds("target")
def export_workdir(
    workdir: Path, target: Path, format: str, clips: Sequence[str] = (), runtime: Path | None = None
) -> Export:
    """Exports the model of a workdir; nothing is written unless every file returns what the model does.

    Args:
      workdir: folder of a trained run, with 8-bit weights or not.
      target: folder to write; must be absent or empty.
      format: key of `FORMATS`.
      clips: recordings to compare on, files and folders; (): utterances of the training corpus.
      runtime: folder of the npm package onnxruntime-web, for `web`; None: fetched by npm.

    Raises:
      ConfigError: the model cannot be exported in this format; the message names what can.
      CheckpointError: `workdir` cannot be restored.
      ExportError: a file differs from the model.
      EmojaxError: `target` cannot be written.
    """
    if not workdir.is_dir():
        raise CheckpointError(f"{workdir}: no such workdir")
    if not is_vacant(target):
        raise ConfigError(f"--output must be a new or empty folder, got {target}")
    mesh = make_mesh(MeshConfig(data=1, fsdp=1), jax.local_devices()[:1])
    trained = restore_model(workdir, mesh, dtype="float32")
    check_waveform_model(trained)
    description = describe(trained)
    recordings, origin = read_clips(trained, description, clips)
    print(f"{workdir}: {format}, compared with the model on {len(recordings)} clips of {origin}", flush=True)
    export = FORMATS[format](Source(trained, description, Predictor(trained), recordings, runtime))
    example = export.files[export.example].decode()
    card = render_export_card(trained, description, export.checks, export.library, export.notes, example)
    export.files["README.md"] = card.encode()
    metadata = json.dumps(description.tree(), indent=2, ensure_ascii=False) + "\n"
    for path, content in {"metadata.json": metadata.encode(), **export.files}.items():
        with atomic_write(target / path) as temporary:
            temporary.write_bytes(content)
    return export
