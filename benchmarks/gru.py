"""GRU layers, forward and with gradients, beside `torch.nn.GRU`: float32, the same weights.

    python -m benchmarks.gru [--threads=2] [--rounds=7] [--json=FILE]

Both sides take turns in one process with new inputs in every round; medians. Compilation is not part of the times and
printed on its own. The share is that of the ceiling (`benchmarks.machine`). PyTorch's threads wait for each other at
every frame: where other programs use the cores, it slows down far more than XLA, so measure on an idle machine.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.machine import print_machine, share
from benchmarks.timing import cores, medians, take_turns, use_cores
from benchmarks.work import Work, work_of
from emojax.models import GRU

Run = Callable[[np.ndarray], object]
TASKS = ("forward", "forward+backward")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"batch": 32, "frames": 1000, "features": 40, "size": 128, "layers": 2}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_cores(options.threads)
    torch.set_num_threads(options.threads)
    case = {name: getattr(options, name) for name in sizes}
    peers, kernels = torch_side(options)
    ours, work, compile_seconds = jax_side(options, kernels)
    machine = print_machine(work[TASKS[1]].products, options.threads)
    sides = {(side, task): runs[task] for side, runs in (("emojax", ours), ("torch", peers)) for task in TASKS}
    shape = (options.batch, options.frames, options.features)
    times = take_turns(
        sides, lambda number: np.random.default_rng(number).normal(size=shape).astype(np.float32), options.rounds, 1
    )
    seconds = medians(times)
    results: dict[str, Any] = {"machine": machine, "case": case, "compile_seconds": compile_seconds}
    print(f"GRU ({', '.join(f'{name} {value}' for name, value in case.items())}); compiled in {compile_seconds:.1f} s")
    print("| | emojax s | share of ceiling | PyTorch s | share | PyTorch over emojax |\n|---|---|---|---|---|---|")
    for task in TASKS:
        found = {side: seconds[side, task] for side in ("emojax", "torch")}
        shares = {side: share(work[task].flops, each, machine) for side, each in found.items()}
        ratio = found["torch"] / found["emojax"]
        shown = [f"{found[side]:.3f} | {100 * shares[side]:.0f} %" for side in found]
        print(f"| {task} | {' | '.join(shown)} | {ratio:.2f} |")
        results[task] = {"seconds": found, "shares": shares, "ratio": ratio, "flops": work[task].flops}
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def jax_side(
    options: argparse.Namespace, kernels: list[dict[str, np.ndarray]]
) -> tuple[dict[str, Run], dict[str, Work], float]:
    """Functions of the tasks, their operations, and the seconds of compilation."""
    shape = (options.batch, options.frames)
    mask, initial = jnp.ones(shape, bool), jnp.zeros((options.batch, options.size))

    def states(params, features):
        for layer in params:
            features, _ = GRU(options.size).apply({"params": layer}, features, mask, initial)
        return features

    def loss(params, features):
        return jnp.square(states(params, features)).sum()

    params = jax.tree.map(jnp.asarray, kernels)
    example = jnp.zeros((*shape, options.features))
    functions = dict(zip(TASKS, (states, jax.grad(loss)), strict=True))
    start = time.perf_counter()
    compiled = {task: jax.jit(function).lower(params, example).compile() for task, function in functions.items()}
    seconds = time.perf_counter() - start
    work = {task: work_of(function, params, example) for task, function in functions.items()}

    def run(program: Any) -> Run:
        return lambda inputs: jax.block_until_ready(program(params, inputs))

    return {task: run(program) for task, program in compiled.items()}, work, seconds


def torch_side(options: argparse.Namespace) -> tuple[dict[str, Run], list[dict[str, np.ndarray]]]:
    """Functions of the tasks, and the parameters by emojax's names."""
    network = torch.nn.GRU(options.features, options.size, options.layers, batch_first=True)
    names = {"kernel_ih": "weight_ih", "kernel_hh": "weight_hh", "bias_ih": "bias_ih", "bias_hh": "bias_hh"}
    kernels = [
        {ours: getattr(network, f"{theirs}_l{layer}").detach().numpy().T for ours, theirs in names.items()}
        for layer in range(options.layers)
    ]

    def forward(inputs: np.ndarray) -> None:
        with torch.inference_mode():
            network(torch.from_numpy(inputs))

    def gradients(inputs: np.ndarray) -> None:
        network.zero_grad()
        network(torch.from_numpy(inputs))[0].square().sum().backward()

    return dict(zip(TASKS, (forward, gradients), strict=True)), kernels


if __name__ == "__main__":
    main()
