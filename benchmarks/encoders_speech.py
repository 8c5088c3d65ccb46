"""Speed and peak memory of speech encoders, forward and in fine-tuning, beside transformers with PyTorch.

    python -m benchmarks.encoders_speech [--cases=forward_1x10s,fine_tune_4x5s] [--rounds=2] [--threads=2] [--json=FILE]

float32, random weights, new waveforms in every call. Each side is a process of its own, several times in turn; the best
time of each side counts. Compilation is not part of the times. Peak memory is that of the whole process, parameters
included. Shares are those of the ceiling (`benchmarks.machine`), measured for each case after its rounds; operations of
fine-tuning are three times those of the forward pass.
"""

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import ROOT, Product, measure_ceiling, print_processor, share
from benchmarks.timing import cores, use_cores

Run = Callable[[np.ndarray], object]


@dataclasses.dataclass(frozen=True)
class Case:
    model_type: str
    rows: int
    seconds: int
    train: bool


CASES = {
    "forward_1x10s": Case("hubert", 1, 10, False),
    "forward_4x10s": Case("hubert", 4, 10, False),
    "forward_8x5s": Case("hubert", 8, 5, False),
    "forward_1x30s": Case("hubert", 1, 30, False),
    "fine_tune_4x5s": Case("hubert", 4, 5, True),
    "wavlm_forward_4x10s": Case("wavlm", 4, 10, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        case = CASES[arguments.cases]
        run, work = SIDES[arguments.side](case, arguments.threads)
        print(json.dumps(measure(run, case, arguments.repeats) | work))
        return
    results = {"machine": print_processor(arguments.threads), "cases": {}}
    print("| case | emojax s, share | PyTorch s, share | PyTorch over emojax | emojax GB | PyTorch GB |")
    print("|---|---|---|---|---|---|")
    for name in arguments.cases.split(","):
        found = results["cases"][name] = compare(name, arguments)
        times = [f"{found['seconds'][side]:.2f}, {100 * found['shares'][side]:.0f} %" for side in SIDES]
        memory = [f"{found['gigabytes'][side]:.2f}" for side in SIDES]
        ratio = f"{found['ratio']:.2f}"
        print(f"| {' | '.join([name, *times, ratio, *memory])} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


def compare(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures a case."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(arguments.rounds):
        for side in SIDES:
            runs[side].append(in_process(side, name, arguments))
    seconds, gigabytes = (
        {side: min(run[key] for run in found) for side, found in runs.items()} for key in ("seconds", "gigabytes")
    )
    flops, products = runs["jax"][0]["flops"], [Product(*each) for each in runs["jax"][0]["products"]]
    ceiling = measure_ceiling(products, arguments.threads)
    shares = {side: share(flops, each, ceiling) for side, each in seconds.items()}
    ratio = seconds["torch"] / seconds["jax"]
    found = {"seconds": seconds, "gigabytes": gigabytes, "shares": shares, "ratio": ratio, "flops": flops}
    return found | ceiling


def in_process(side: str, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.encoders_speech", f"--side={side}", f"--cases={name}"]
    command += [f"--repeats={arguments.repeats}", f"--threads={arguments.threads}"]
    threads = {"OMP_NUM_THREADS": str(arguments.threads)}
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **threads}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} ({side}) failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(run: Run, case: Case, repeats: int) -> dict[str, float]:
    run(audio(case, 0))
    times = []
    for number in range(repeats):
        waveform = audio(case, number + 1)
        start = time.perf_counter()
        run(waveform)
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": min(times), "gigabytes": peak / 1e9}


def jax_side(case: Case, threads: int) -> tuple[Run, dict[str, Any]]:
    """Function of a waveform, and operations and products of the case."""
    import jax
    import jax.numpy as jnp

    from benchmarks.work import work_of
    from emojax.encoders.families import ComputeOptions, family_of

    use_cores(threads)
    config = {"model_type": case.model_type}
    options = ComputeOptions(scan_layers=case.train)  # one layer's temporaries at a time, as fine-tuning wants
    family = family_of(config)
    module = family.build_module(config, family.optional_names, options)
    example, lengths = jnp.asarray(audio(case, 0)), jnp.full(case.rows, case.seconds * 16_000)
    shapes = jax.eval_shape(module.init, jax.random.key(0), example, lengths)["params"]
    # Made on the host one by one: initialising on the device would be the peak of a short case.
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jax.device_put(random.normal(0, 0.02, leaf.shape).astype(np.float32)), shapes)

    def states(params, waveform):
        rngs = {"dropout": jax.random.key(0)} if case.train else None
        output = module.apply({"params": params}, waveform, lengths, train=case.train, rngs=rngs)
        return output.last_hidden_state

    def gradients(params, waveform):
        return jax.grad(lambda params: jnp.square(states(params, waveform)).mean())(params)

    compiled = jax.jit(gradients if case.train else states).lower(params, example).compile()
    work = work_of(states, params, example)
    flops = (3 if case.train else 1) * work.flops
    found = {"flops": flops, "products": work.products}
    return lambda waveform: jax.block_until_ready(compiled(params, jnp.asarray(waveform))), found


def torch_side(case: Case, threads: int) -> tuple[Run, dict[str, Any]]:
    """Function of a waveform."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    kind = {"hubert": "Hubert", "wavlm": "WavLM"}[case.model_type]
    config = getattr(transformers, f"{kind}Config")(layerdrop=0.0, apply_spec_augment=False)  # emojax has neither
    model = getattr(transformers, f"{kind}Model")(config)
    if not case.train:
        model.eval()

        def forward(waveform: np.ndarray) -> None:
            with torch.inference_mode():
                model(torch.from_numpy(waveform))

        return forward, {}

    def step(waveform: np.ndarray) -> None:
        model.zero_grad()
        model(torch.from_numpy(waveform)).last_hidden_state.square().mean().backward()

    model.train()
    return step, {}


def audio(case: Case, number: int) -> np.ndarray:
    """Noise, other for every number."""
    return np.random.default_rng(number).normal(0, 0.1, (case.rows, case.seconds * 16_000)).astype(np.float32)


SIDES = {"jax": jax_side, "torch": torch_side}

if __name__ == "__main__":
    main()
