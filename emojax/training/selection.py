"""Which checkpoint is best, and when to stop: a small state machine over validation results."""

import dataclasses
from typing import Any

from emojax.types import ATTRIBUTES


@dataclasses.dataclass
class Selection:
    """Best validation score so far and how long ago it was.

    Attributes:
      patience: evaluations without a better score after which training stops; 0 never stops early.
      best_score: largest score so far; None before the first.
      best_step: its step.
      since_best: evaluations since then.
      best_of_each: best value and its step of every CCC and of the UAR, so that no attribute's loss hides in a mean.
    """

    patience: int
    best_score: float | None = None
    best_step: int = 0
    since_best: int = 0
    best_of_each: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def update(self, step: int, metrics: dict[str, float]) -> None:
        """Takes the validation metrics of a step, of which `score` decides."""
        score = metrics["score"]
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_step, self.since_best = score, step, 0
        else:
            self.since_best += 1
        for name in (*(f"ccc_{attribute}" for attribute in ATTRIBUTES), "uar"):
            if name in metrics and metrics[name] > self.best_of_each.get(name, {"value": float("-inf")})["value"]:
                self.best_of_each[name] = {"value": metrics[name], "step": step}

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience > 0 and self.since_best >= self.patience

    def get_state(self) -> dict[str, Any]:
        """JSON-able state."""
        return dataclasses.asdict(self)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` gave, but for the patience, which is the config's."""
        for name, value in state.items():
            if name != "patience":
                setattr(self, name, value)
