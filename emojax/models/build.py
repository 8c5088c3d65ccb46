"""Builds a model from its config, and the shapes of its input, variables and outputs; nothing is computed."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from emojax.encoders import Encoder, resolve_layers
from emojax.models.emotion_model import EmotionModel, EmotionModelConfig
from emojax.models.encoder_input import EncoderPart
from emojax.types import NUM_ATTRIBUTES, SAMPLE_RATE, Batch, StoredRows


def build_model(
    config: EmotionModelConfig, num_categories: int, encoders: Mapping[str, Encoder] | Mapping[str, EncoderPart]
) -> EmotionModel:
    """Builds the module of a config.

    Args:
      config: inputs, networks, fusion.
      num_categories: C, number of categories of the corpus.
      encoders: encoder of each of `config.encoder_modalities`, loaded or without its parameters.
    """
    parts = {
        modality: encoder if isinstance(encoder, EncoderPart) else EncoderPart.of(encoder)
        for modality, encoder in encoders.items()
    }
    return EmotionModel(config, num_categories, parts)


def example_batch(model: EmotionModel, online: tuple[str, ...] = (), max_tokens: int = 0) -> Batch:
    """One second of silence, to initialise a model with.

    Args:
      model: from `build_model`.
      online: encoder modalities that are computed in the step; the others get two rows of hidden states.
      max_tokens: L, tokens of a transcript; counts where `lexical` is online.
    """
    config = model.config
    tokens = max_tokens if "lexical" in online else 0
    stored = {}
    for modality in config.encoder_modalities:
        if modality not in online:
            settings, encoder = getattr(config, modality), model.encoders[modality]
            found = resolve_layers(settings.layers, encoder.num_layers, f"config.model.{modality}.layers")
            layers = 1 if settings.combine == "mean" else len(found)
            rows = 2 if settings.pooling == "none" else 1
            states = jnp.zeros((1, rows, layers, settings.row_size(encoder.num_features)), jnp.float32)
            stored[modality] = StoredRows(states, jnp.full(1, rows, jnp.int32))
    return Batch(
        waveform=jnp.zeros((1, SAMPLE_RATE), jnp.int16),
        num_samples=jnp.full(1, SAMPLE_RATE, jnp.int32),
        tokens=jnp.zeros((1, tokens), jnp.int32),
        num_tokens=jnp.full(1, tokens, jnp.int32),
        attributes=jnp.zeros((1, NUM_ATTRIBUTES), jnp.float32),
        emotion=jnp.zeros(1, jnp.int32),
        emotion_votes=jnp.zeros((1, model.num_categories), jnp.float32),
        weight=jnp.ones(1, jnp.float32),
        index=jnp.zeros(1, jnp.int32),
        stored=stored,
    )


def variable_shapes(model: EmotionModel, batch: Batch) -> dict[str, Any]:
    """Shapes and dtypes of `params` and `statistics` of a model, all encoders that `batch` needs included."""
    shapes: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))
    return {"params": shapes["params"], "statistics": shapes.get("statistics", {})}


def embedding_size(model: EmotionModel, batch: Batch) -> int:
    """Size of `EmotionOutput.embedding`."""
    output: Any = jax.eval_shape(
        lambda variables: model.apply(variables, batch, train=False), variable_shapes(model, batch)
    )
    return output.embedding.shape[1]
