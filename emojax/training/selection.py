"""Selection of the best checkpoint by its validation score, and early stopping."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from emojax.schema import Ge, settings
from emojax.types import ATTRIBUTES


@settings
class BestValue:
    """Best value of a validation figure, and its step."""

    value: float
    step: Annotated[int, Ge(0)]


@settings
class SavedSelection:
    """State of a `Selection` as a checkpoint holds it."""

    patience: Annotated[int, Ge(0)]
    best_score: float | None
    best_step: Annotated[int, Ge(0)]
    since_best: Annotated[int, Ge(0)]
    best_of_each: Mapping[str, BestValue]


@dataclasses.dataclass
class Selection:
    """Best validation score so far and how long ago it was.

    Attributes:
      patience: evaluations without a better score after which training stops; 0 never stops early.
      best_score: largest score so far; None before the first.
      best_step: its step.
      since_best: evaluations since then.
      best_of_each: best value and its step of every CCC and of the UAR.
    """

    patience: int
    best_score: float | None = None
    best_step: int = 0
    since_best: int = 0
    best_of_each: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def update(self, step: int, metrics: dict[str, float]) -> None:
        """Adds the validation metrics of a step; `score` ranks steps."""
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

    def set_state(self, state: SavedSelection) -> None:
        """Restores what `get_state` returned, except the patience, which is the config's."""
        self.best_score, self.best_step, self.since_best = state.best_score, state.best_step, state.since_best
        self.best_of_each = {name: dataclasses.asdict(best) for name, best in state.best_of_each.items()}
