"""Speed of the GRU layers against torch.nn.GRU on CPU: float32, same weights, fresh inputs at every call.

    python -m benchmarks.gru [--threads=2] [--rounds=7] [--json]

Both sides take turns in one process, so that a busy machine hurts both alike; what is shown is each side's median.
Compilation is not part of the times and shown on its own. PyTorch's threads wait for each other at every frame: where
other programs keep the cores busy it slows down far more than XLA does, so measure on an idle machine.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

Run = Callable[[np.ndarray], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 32), ("frames", 1000), ("features", 40), ("size", 128), ("layers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    # XLA has no option for its threads: it takes as many as the process may use when it starts.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    os.environ["JAX_PLATFORMS"] = "cpu"

    peers = torch_side(options)
    ours, compile_seconds = jax_side(options, peers.pop("kernels"))
    times = take_turns({"emojax": ours, "torch": peers}, options)
    report = {
        "case": {name: getattr(options, name) for name in ("batch", "frames", "features", "size", "layers", "threads")},
        "load": os.getloadavg()[0],
        "compile_seconds": compile_seconds,
    }
    for task in ours:
        ours_seconds, peer_seconds = (statistics.median(times[side, task]) for side in ("emojax", "torch"))
        report[task] = {"emojax": ours_seconds, "torch": peer_seconds, "ratio": peer_seconds / ours_seconds}
    print(json.dumps(report) if options.json else table(report))


def take_turns(sides: dict[str, dict[str, Run]], options: argparse.Namespace) -> dict[tuple[str, str], list[float]]:
    """Seconds of every call by side and task."""
    rng = np.random.default_rng(0)
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(options.rounds + 1):
        for side, tasks in sides.items():
            for task, run in tasks.items():
                inputs = rng.normal(size=(options.batch, options.frames, options.features)).astype(np.float32)
                start = time.perf_counter()
                run(inputs)
                if turn:  # the first warms up
                    times.setdefault((side, task), []).append(time.perf_counter() - start)
    return times


def jax_side(options: argparse.Namespace, kernels: list[dict[str, np.ndarray]]) -> tuple[dict[str, Run], float]:
    import jax
    import jax.numpy as jnp

    from emojax.models import GRU

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
    start = time.perf_counter()
    forward = jax.jit(states).lower(params, example).compile()
    gradients = jax.jit(jax.grad(loss)).lower(params, example).compile()
    seconds = time.perf_counter() - start
    return {
        "forward": lambda inputs: jax.block_until_ready(forward(params, inputs)),
        "forward+backward": lambda inputs: jax.block_until_ready(gradients(params, inputs)),
    }, seconds


def torch_side(options: argparse.Namespace) -> dict:
    import torch

    torch.set_num_threads(options.threads)
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

    return {"kernels": kernels, "forward": forward, "forward+backward": gradients}


def table(report: dict) -> str:
    case = ", ".join(f"{name} {value}" for name, value in report["case"].items())
    lines = [f"GRU ({case}; load {report['load']:.1f}; compiled in {report['compile_seconds']:.1f} s)", ""]
    lines += ["| | emojax s | torch s | faster by |", "|---|---|---|---|"]
    for task in ("forward", "forward+backward"):
        figures = report[task]
        lines.append(f"| {task} | {figures['emojax']:.3f} | {figures['torch']:.3f} | {figures['ratio']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
