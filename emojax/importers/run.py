"""Conversion of a published emotion model to a workdir."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from emojax.config import ExperimentConfig
from emojax.encoders import ComputeOptions, Encoder, checkpoint_fingerprint, save_encoder
from emojax.encoders.checkpoint_files import find_folder, read_tensors
from emojax.encoders.pretrained import read_parameters
from emojax.encoders.token_inputs import TokenInputs
from emojax.errors import CheckpointError
from emojax.files import is_vacant
from emojax.importers.card import ModelCard, read_card
from emojax.importers.layouts import read_published
from emojax.importers.published_model import PublishedModel, output_order
from emojax.models.encoder_input import AcousticInputConfig, EncoderInputConfig
from emojax.types import CorpusInfo
from emojax.workdir import (
    ENCODERS,
    SUMMARY,
    Checkpoints,
    holds,
    own_checkpoint_directory,
    unknown_labels,
    write_config,
    write_corpus_metadata,
    write_encoder_source,
    write_json,
)


@holds("workdir")
def import_published(config: ExperimentConfig, workdir: Path) -> None:
    """Imports the checkpoint `config.model.acoustic.checkpoint`, or `config.model.lexical.checkpoint` of a text model.

    The workdir can be evaluated and used for prediction and as a teacher like a trained one. Pooling, sizes and heads
    of the checkpoint replace those of the config.

    Args:
      config: config with one modality, "acoustic" or "lexical".
      workdir: new or empty folder.

    Raises:
      CheckpointError: the folder is not empty, or the checkpoint's layout is not supported.
    """
    if config.model.modalities not in (("acoustic",), ("lexical",)):
        raise CheckpointError(
            f"config.model.modalities must be ('acoustic',) or ('lexical',), got {config.model.modalities}"
        )
    if not is_vacant(workdir):
        raise CheckpointError(f"{workdir}: must be a new or empty folder")
    (modality,) = config.model.modalities
    settings: EncoderInputConfig = getattr(config.model, modality)
    revision = settings.revision or None
    folder = find_folder(settings.checkpoint, revision)
    file, tensors = read_tensors(folder)
    published = read_published(folder, tensors)
    if published.modality != modality:
        raise CheckpointError(
            f"{folder}: config.model.modalities must be {(published.modality,)} for this checkpoint, got {(modality,)}"
        )
    encoder = _encoder(published, origin=str(file))
    model = {"params": _parameters(published), "statistics": {}}
    write_config(workdir, _adapt_config(config, published, encoder))
    encoder_folder = workdir / ENCODERS / modality
    save_encoder(encoder, encoder_folder)
    write_encoder_source(encoder_folder, settings.checkpoint, checkpoint_fingerprint(folder), settings.revision)
    info = _corpus_info(published, read_card(folder))
    write_corpus_metadata(workdir, unknown_labels(info))
    directory = own_checkpoint_directory(workdir, config.training.checkpoint_dir)
    with Checkpoints(directory, writing=True, digests=config.training.checkpoint_digests) as checkpoints:
        checkpoints.save(0, model, {"step": jnp.zeros((), jnp.int32)}, {"source": settings.checkpoint}, score=None)
    write_json(workdir / SUMMARY, {"source": settings.checkpoint, "steps": 0})
    low, high = info.scale
    outputs = f"attributes {low:g} to {high:g}" if published.dimensional else ", ".join(info.categories)
    print(f"{settings.checkpoint}: {outputs}; licence {info.licence}; trained on {info.name}", flush=True)


def _corpus_info(published: PublishedModel, card: ModelCard) -> CorpusInfo:
    return CorpusInfo(
        name=card.corpus,
        scale=card.scale,
        categories=() if published.dimensional else published.labels,
        speech="recorded",
        attribute_source="rated" if published.dimensional else "none",
        licence=card.licence,
        citation=card.citation,
    )


def _adapt_config(config: ExperimentConfig, published: PublishedModel, encoder: Encoder) -> ExperimentConfig:
    settings: EncoderInputConfig = getattr(config.model, published.modality)
    network = dataclasses.replace(
        settings.network,
        gru_layers=0,
        conv_channels=0,
        block_dilations=(),
        pooling=published.pooling,
        embedding_size=_embedding_size(published),
        embedding_norm=published.norm,
        embedding_activation=published.activation,
    )
    settings = dataclasses.replace(
        settings,
        store="",
        layers=published.layers,
        combine="weighted" if len(published.layers) > 1 else "mean",
        normalisation="none",
        train="nothing",
        network=network,
    )
    if isinstance(settings, AcousticInputConfig):
        settings = dataclasses.replace(settings, padded=published.padded)
    third = 1 / 3 if published.dimensional else 0.0
    objective = dataclasses.replace(
        config.objective,
        attribute_weights=(third, third, third),
        emotion_weight=0.0 if published.dimensional else 1.0,
    )
    data = config.data
    if isinstance(encoder.inputs, TokenInputs):
        data = dataclasses.replace(data, max_tokens=min(data.max_tokens, encoder.inputs.longest))
    changed: dict[str, Any] = {published.modality: settings, "clip_attributes": False}
    model = dataclasses.replace(config.model, **changed)
    return dataclasses.replace(config, model=model, objective=objective, data=data)


def _embedding_size(published: PublishedModel) -> int:
    return int(published.head[f"{published.modality}_network/embedding/bias"].shape[0])


def _encoder(published: PublishedModel, origin: str) -> Encoder:
    config = published.encoder_config
    module, params = read_parameters(config, published.encoder, ComputeOptions(), None, origin)
    sizes: Any = module.config
    return Encoder(module, params, config, published.inputs(sizes))


def _parameters(published: PublishedModel) -> dict[str, Any]:
    """Reads the parameters outside the encoder, with outputs in the order of `ATTRIBUTES`."""
    head = "attributes" if published.dimensional else "categories"
    flat = {}
    for path, tensor in published.head.items():
        values = np.asarray(tensor.read(), np.float32)
        if path.startswith("output/"):
            values = values[output_order(published)]
            path = path.replace("output", f"heads/{head}")
        flat[path] = jnp.asarray(values.T if path.endswith("kernel") else values)
    if not published.dimensional:  # the attribute head always exists; its output is unused
        flat["heads/attributes/kernel"] = jnp.zeros((_embedding_size(published), 3), jnp.float32)
        flat["heads/attributes/bias"] = jnp.full(3, 0.5, jnp.float32)
    return flax.traverse_util.unflatten_dict(flat, sep="/")
