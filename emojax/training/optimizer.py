"""AdamW with its schedule, layer-wise rates and frozen parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from emojax.config import OptimizerConfig
from emojax.models import distances_from_top


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then constant or a cosine to zero at `num_steps`."""
    after = max(num_steps - config.warmup_steps, 1)
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.learning_rate, after)
    else:
        main = optax.constant_schedule(config.learning_rate)
    if not config.warmup_steps:
        return main
    # The first step has 1/warmup_steps of the full rate, not zero.
    start = config.learning_rate / config.warmup_steps
    warmup = optax.linear_schedule(start, config.learning_rate, max(config.warmup_steps - 1, 1))
    return optax.join_schedules([warmup, main], [config.warmup_steps])


def make_optimizer(
    config: OptimizerConfig, num_steps: int, modalities: tuple[str, ...] = ()
) -> optax.GradientTransformation:
    """Clips the global norm (0: not), then AdamW; weight decay spares biases and other vectors.

    Args:
      config: rates, schedule, decay.
      num_steps: length of the training in steps.
      modalities: encoder modalities; encoders that are trained have the rate `encoder_learning_rate`, times
        `layer_decay` for every layer below the last.
    """
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    parts.append(
        optax.adamw(
            make_schedule(config, num_steps),
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        )
    )
    if modalities:
        parts.append(optax.stateless(lambda updates, _: _scale_encoder_updates(updates, config, modalities)))
    return optax.chain(*parts)


def _scale_encoder_updates(updates: Any, config: OptimizerConfig, modalities: tuple[str, ...]) -> Any:
    """Scales updates of encoders by the ratio of the rates, and by `layer_decay` per layer from the top."""
    base = config.encoder_learning_rate / config.learning_rate
    model = dict(updates["model"])
    for modality in modalities:
        encoder = model.get(modality, {}).get("encoder")
        if not encoder:
            continue
        # Distances count from 1, the last layer, which has the encoder's full rate.
        scaled = jax.tree.map(
            lambda distance, leaf: leaf * _factor(base, config.layer_decay, distance, leaf.ndim),
            distances_from_top(encoder),
            encoder,
            is_leaf=lambda node: isinstance(node, (int, tuple)),
        )
        model[modality] = {**model[modality], "encoder": scaled}
    return {**updates, "model": model}


def _factor(base: float, decay: float, distance: int | tuple[int, ...], ndim: int) -> Any:
    if isinstance(distance, int):
        return base * decay ** (distance - 1)
    return jnp.asarray([base * decay ** (each - 1) for each in distance]).reshape(-1, *[1] * (ndim - 1))
