"""Training step of a log-mel TC-GRU, from waveforms to the update, beside the same network in PyTorch.

    python -m benchmarks.training_step [--configs=mfb,student_s] [--rows=32] [--seconds=5] [--rounds=15] [--threads=2]

Configs are modules of `configs/`. A step is log-mel energies of int16 waveforms, TC-GRU, CCC loss, gradient, clipping,
AdamW with the config's schedule, and the moving average of the parameters where the config has one. emojax runs the
step of `emojax.training`. The peer is `benchmarks.torch_tcgru` (`torch.stft` and the same mel matrix, `nn.Conv1d`,
`nn.GRU`) with fused AdamW, eager and with `torch.compile` of the loss, of which PyTorch itself leaves the GRU
uncompiled. All start from the same parameters and get the same new batch of noise in every round, on the device before
the clock starts; threads are equal, sides take turns, medians. Freed memory is kept, as `launch.py` does. The first
loss of each side must agree with that of emojax to a relative 1e-5, and the norm of its gradient to 1e-4, or the
benchmark ends with an error. The share is that of the ceiling (`benchmarks.machine`), the ratio that of PyTorch's
better time to emojax's.

With `JAX_NUM_CPU_DEVICES=2` emojax computes half of the batch on each of two devices.
"""

import argparse
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.machine import print_machine, share
from benchmarks.steps import batch_of
from benchmarks.timing import cores, medians, take_turns, use_cores
from benchmarks.torch_tcgru import TorchTCGRU, ccc_loss
from benchmarks.work import work_of
from emojax.config import ExperimentConfig, OptimizerConfig, parse_experiment
from emojax.models import build_model
from emojax.parallel import keep_freed_memory, make_mesh, to_global_arrays
from emojax.training import make_optimizer
from emojax.training.experiment import Experiment
from emojax.training.optimizer import make_schedule
from emojax.types import SAMPLE_RATE, CorpusInfo
from emojax.workdir import unknown_labels

WARM_UP = 2
SCHEDULE_STEPS = 1000
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default="mfb,student_s", help="modules of `configs/`")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_cores(options.threads)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    results = {name: compare(name, options) for name in options.configs.split(",")}
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures a config and prints its table; returns the figures."""
    config, experiment = experiment_of(name)
    optimizer = make_optimizer(config.optimizer, SCHEDULE_STEPS)
    state = experiment.init_state(optimizer)
    variables = jax.device_get(state.eval_variables)
    step = experiment.train_step(optimizer, state)
    work = work_of(step, state, fresh(0, options, experiment)[0])
    machine = print_machine(work.products, options.threads)
    first: dict[str, tuple[float, float]] = {}

    def emojax_step(inputs: Any) -> None:
        nonlocal state
        state, metrics = step(state, inputs[0])
        jax.block_until_ready(state)
        found = float(metrics["loss"]), float(metrics["gradient_norm"])
        first.setdefault("emojax", found)

    def peer(name: str, step: TorchStep) -> Callable[[Any], None]:
        def run(inputs: Any) -> None:
            found = step(*inputs[1])
            first.setdefault(name, found)

        return run

    sides = {"emojax": emojax_step, "PyTorch, eager": peer("PyTorch, eager", TorchStep(config, variables))}
    if not options.no_compile:
        compiled = TorchStep(config, variables)
        try:
            compiled.compile(*fresh(0, options, experiment)[1])
            sides["PyTorch, compiled"] = peer("PyTorch, compiled", compiled)
        except Exception as error:
            print(f"torch.compile does not work here: {type(error).__name__}: {str(error).splitlines()[0]}")
    times = take_turns(sides, lambda number: fresh(number, options, experiment), options.rounds, WARM_UP)
    seconds = medians(times)
    ratio = min(seconds[name] for name in seconds if name != "emojax") / seconds["emojax"]
    of_ceiling = share(work.flops, seconds["emojax"], machine)
    print(f"`{name}`, {options.rows} x {options.seconds:g} s, {1e-9 * work.flops:.2f} GFLOP")
    print("| side | ms | share of ceiling | first loss | norm of gradient |\n|---|---|---|---|---|")
    for side, (loss, norm) in first.items():
        shown = f"{100 * of_ceiling:.0f} %" if side == "emojax" else ""
        print(f"| {side} | {1e3 * seconds[side]:.1f} | {shown} | {loss:.7f} | {norm:.7f} |")
    print(f"PyTorch's best over emojax: {ratio:.2f}\n", flush=True)
    check_equal(first)
    found = {"seconds": seconds, "ratio": ratio, "flops": work.flops, "share": of_ceiling, "first": first}
    return {"machine": machine, "rows": options.rows, "clip_seconds": options.seconds, **found}


def experiment_of(name: str) -> tuple[ExperimentConfig, Experiment]:
    """Config and experiment with random parameters, without a corpus."""
    config = parse_experiment(importlib.import_module(f"configs.{name}").get_config().to_dict())
    metadata = unknown_labels(CorpusInfo("noise", (0.0, 1.0), (), "recorded", "rated", "", ""))
    model = build_model(config.model, 0, {})
    return config, Experiment(config, metadata, make_mesh(config.mesh), model, {}, None)


def fresh(number: int, options: argparse.Namespace, experiment: Experiment) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """The same batch of noise for emojax, on its devices, and for PyTorch (waveforms and labels)."""
    random = np.random.default_rng(number)
    samples = round(SAMPLE_RATE * options.seconds)
    levels = random.uniform(100, 4000, (options.rows, 1))
    waveform = (levels * random.standard_normal((options.rows, samples))).clip(-32768, 32767).astype(np.int16)
    labels = random.random((options.rows, 3), np.float32)
    batch: Any = batch_of(waveform)
    batch = to_global_arrays(jax.tree.map(np.asarray, batch.replace(attributes=labels)), experiment.mesh)
    return jax.block_until_ready(batch), (torch.from_numpy(waveform), torch.from_numpy(labels))


class TorchStep:
    """Model, optimizer and moving average in PyTorch, and their step.

    Args:
      config: config of the run.
      variables: initial parameters and statistics of emojax's model.
    """

    def __init__(self, config: ExperimentConfig, variables: Mapping[str, Any]):
        self.settings: OptimizerConfig = config.optimizer
        self.model = TorchTCGRU(config.model.log_mel, variables)
        self.parameters = list(self.model.parameters())
        matrices = [each for each in self.parameters if each.ndim > 1]
        vectors = [each for each in self.parameters if each.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        schedule = make_schedule(self.settings, SCHEDULE_STEPS)
        self.rates = [float(schedule(number)) for number in range(SCHEDULE_STEPS)]
        self.average = [each.detach().clone() for each in self.parameters] if self.settings.ema_decay else []
        self.number = 0
        self.loss: Callable[..., torch.Tensor] = lambda waveform, labels: ccc_loss(self.model(waveform), labels)

    def compile(self, waveform: torch.Tensor, labels: torch.Tensor) -> None:
        """Compiles loss and gradient for these shapes."""
        self.loss = torch.compile(self.loss, dynamic=False)
        self.loss(waveform, labels).backward()
        self.optimizer.zero_grad()

    def __call__(self, waveform: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        """Updates the parameters; returns the loss and the norm of its gradient."""
        loss = self.loss(waveform, labels)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm or float("inf"))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[self.number]
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            decay = min(self.settings.ema_decay, (1 + self.number) / (10 + self.number))
            torch._foreach_lerp_(self.average, [each.detach() for each in self.parameters], 1 - decay)
        self.number += 1
        return float(loss), float(norm)


def check_equal(first: Mapping[str, tuple[float, float]]) -> None:
    """Checks that all sides have computed the same first loss and gradient norm."""
    for side, found in first.items():
        if not np.allclose(found[0], first["emojax"][0], rtol=LOSS_TOLERANCE, atol=0):
            raise SystemExit(f"{side}: first loss {found[0]}, emojax {first['emojax'][0]}")
        if not np.allclose(found[1], first["emojax"][1], rtol=GRADIENT_TOLERANCE, atol=0):
            raise SystemExit(f"{side}: norm of the first gradient {found[1]}, emojax {first['emojax'][1]}")


if __name__ == "__main__":
    main()
