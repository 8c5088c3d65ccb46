"""The optimizer as one optax transformation: clipping, AdamW, learning-rate schedule."""

import jax
import optax

from emojax.config import OptimizerConfig


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then constant or a cosine to zero at `num_steps`."""
    after = max(num_steps - config.warmup_steps, 1)
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.learning_rate, after)
    else:
        main = optax.constant_schedule(config.learning_rate)
    if not config.warmup_steps:
        return main
    # The first step already moves: its rate is 1/warmup_steps of the full one, not zero.
    start = config.learning_rate / config.warmup_steps
    warmup = optax.linear_schedule(start, config.learning_rate, max(config.warmup_steps - 1, 1))
    return optax.join_schedules([warmup, main], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Clips the global norm (0: not), then AdamW; weight decay spares biases and other vectors."""
    adamw = optax.adamw(
        make_schedule(config, num_steps),
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw) if config.clip_norm else adamw
