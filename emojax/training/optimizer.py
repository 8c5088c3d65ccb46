"""The optimizer as one optax transformation: clipping, AdamW, learning-rate schedule."""

import dataclasses
from typing import Literal

import optax

from emojax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Every field is documented in configs/default.py."""

    learning_rate: float
    schedule: Literal["constant", "cosine"]
    warmup_steps: int
    weight_decay: float
    clip_norm: float
    ema_decay: float

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.learning_rate <= 0:
            raise ConfigError(f"optimizer.learning_rate: {self.learning_rate} is not allowed; allowed: a number > 0")
        for name in ("warmup_steps", "weight_decay", "clip_norm"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optimizer.{name}: {getattr(self, name)} is not allowed; allowed: a number >= 0")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"optimizer.ema_decay: {self.ema_decay} is not allowed; allowed: 0 <= number < 1")


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
        mask=lambda params: optax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw) if config.clip_norm else adamw
