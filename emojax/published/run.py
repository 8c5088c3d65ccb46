"""Makes a workdir of a published emotion model."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from emojax.config import ExperimentConfig
from emojax.encoders import ComputeOptions, Encoder, checkpoint_fingerprint, save_encoder
from emojax.encoders.checkpoint_files import find_folder, read_tensors
from emojax.encoders.load import parameter_shapes
from emojax.encoders.preprocess import waveform_preprocess
from emojax.encoders.registry import family_of
from emojax.encoders.tensor_table import convert, renamed_names
from emojax.errors import CheckpointError
from emojax.published.layouts import PublishedModel, our_order, read_published
from emojax.schema import to_tree
from emojax.types import CorpusInfo
from emojax.workdir import (
    CONFIG,
    ENCODERS,
    SUMMARY,
    Checkpoints,
    own_checkpoint_directory,
    unknown_labels,
    write_corpus_facts,
    write_encoder_source,
    write_json,
)

_SCALE = (1.0, 7.0)
"""Of MSP-Podcast, which these models were trained on; they predict it mapped to [0, 1], as ours do."""


def import_published(config: ExperimentConfig, workdir: Path) -> None:
    """Imports the checkpoint that `config.model.acoustic.checkpoint` names.

    The workdir then evaluates, predicts and teaches as one that was trained here. What the checkpoint determines
    (pooling, sizes, heads) replaces what the config says.

    Args:
      config: of one acoustic view.
      workdir: a new or empty folder.

    Raises:
      CheckpointError: the folder is not empty, or the checkpoint is of no layout known here.
    """
    if config.model.views != ("acoustic",):
        raise CheckpointError(f"config.model.views: {config.model.views} is not allowed; allowed: ('acoustic',)")
    if workdir.exists() and any(workdir.iterdir()):
        raise CheckpointError(f"{workdir}: is not empty; allowed: a new or empty folder")
    settings = config.model.acoustic
    revision = settings.revision or None
    folder = find_folder(settings.checkpoint, revision)
    file, tensors = read_tensors(folder)
    published = read_published(folder, tensors)
    write_json(workdir / CONFIG, to_tree(_fitted(config, published)))
    encoder = _encoder(published, origin=str(file))
    save_encoder(encoder, workdir / ENCODERS / "acoustic")
    write_encoder_source(
        workdir, "acoustic", settings.checkpoint, checkpoint_fingerprint(settings.checkpoint, revision)
    )
    categories = () if published.dimensional else published.labels
    info = CorpusInfo(
        name="msp_podcast",
        scale=_SCALE,
        categories=categories,
        speech="recorded",
        attribute_source="rated",
        licence=published.notes["licence"],
        citation=published.notes["citation"],
    )
    write_corpus_facts(workdir, unknown_labels(info))
    saved = own_checkpoint_directory(workdir, config.training.checkpoint_dir)
    with Checkpoints(saved, writing=True, digests=config.training.checkpoint_digests) as checkpoints:
        model = {"params": _parameters(published), "statistics": {}}
        checkpoints.save(0, model, {"step": jnp.zeros((), jnp.int32)}, {"source": settings.checkpoint}, score=None)
    write_json(workdir / SUMMARY, {"source": settings.checkpoint, "steps": 0})


def _fitted(config: ExperimentConfig, published: PublishedModel) -> ExperimentConfig:
    size = int(published.head["acoustic_network/embedding/bias"].shape[0])
    network = dataclasses.replace(
        config.model.acoustic.network,
        gru_layers=0,
        conv_channels=0,
        pooling=published.pooling,
        embedding_size=size,
        embedding_norm=published.norm,
        embedding_activation=published.activation,
    )
    acoustic = dataclasses.replace(
        config.model.acoustic, store="", layers=(-1,), combine="mean", train="nothing", network=network
    )
    third = 1 / 3 if published.dimensional else 0.0
    objective = dataclasses.replace(
        config.objective,
        attribute_weights=(third, third, third),
        emotion_weight=0.0 if published.dimensional else 1.0,
    )
    return dataclasses.replace(config, model=dataclasses.replace(config.model, acoustic=acoustic), objective=objective)


def _encoder(published: PublishedModel, origin: str) -> Encoder:
    options = ComputeOptions()
    family = family_of(published.encoder_config)
    table = family.tensor_table(published.encoder_config, options.scan_layers)
    module = family.build_module(published.encoder_config, renamed_names(published.encoder, table), options)
    params = convert(published.encoder, table, parameter_shapes(module, family), None, origin=origin)
    preprocess = waveform_preprocess(published.preprocessor, origin)
    return Encoder(module, params, published.encoder_config, preprocess)


def _parameters(published: PublishedModel) -> dict[str, Any]:
    """The parameters outside the encoder, outputs in our order."""
    head = "attributes" if published.dimensional else "categories"
    flat = {}
    for path, tensor in published.head.items():
        values = np.asarray(tensor.read(), np.float32)
        if path.startswith("output/"):
            values = values[our_order(published)]
            path = path.replace("output", f"heads/{head}")
        flat[path] = jnp.asarray(values.T if path.endswith("kernel") else values)
    if not published.dimensional:  # the attributes' head is always there; nothing reads it
        features = flat["acoustic_network/embedding/bias"].shape[0]
        flat["heads/attributes/kernel"] = jnp.zeros((features, 3), jnp.float32)
        flat["heads/attributes/bias"] = jnp.full(3, 0.5, jnp.float32)
    return flax.traverse_util.unflatten_dict(flat, sep="/")
