"""What is left to say when a training has ended."""

import time
from pathlib import Path

import jax

from emojax.parallel import COMPILATIONS
from emojax.training.loop import Outcome
from emojax.workdir import SUMMARY, write_json


def write_summary(workdir: Path, outcome: Outcome, parameters: int) -> None:
    """Writes how training ended and how many parameters were trained."""
    write_json(
        workdir / SUMMARY,
        {
            "parameters": parameters,
            "steps": outcome.steps,
            "epochs": outcome.epochs,
            "seconds": round(outcome.seconds, 3),
            "best_step": outcome.best_step,
            "best_score": outcome.best_score,
            "best_of_each": outcome.best_of_each,
            "stop_reason": outcome.stop_reason,
            "compiled_programs": COMPILATIONS.programs,
            "compile_seconds": round(COMPILATIONS.seconds, 3),
            "devices": [str(device) for device in jax.devices()],
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )
