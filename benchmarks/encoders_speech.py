"""Fine-tuning speed and peak memory of the speech encoders beside transformers with PyTorch: float32, random weights.

    python benchmarks/encoders_speech.py [--cases=forward_1x10s,fine_tune_4x5s] [--rounds=2] [--threads=2]

Both sides run in processes of their own, one after the other and several times in turn, so that a busy machine hurts
both alike; the best time of each side counts. Compilation is not part of the times. Peak memory is that of the whole
process, parameters included.
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

import numpy as np


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
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--side", choices=SIDES)
    arguments = parser.parse_args()
    if arguments.side:
        case = CASES[arguments.cases]
        result = measure(SIDES[arguments.side](case, arguments.threads), arguments.repeats)
        print(json.dumps(result))
        return
    print("| case | emojax s | PyTorch s | faster by | emojax GB | PyTorch GB |\n|---|---|---|---|---|---|")
    for name in arguments.cases.split(","):
        results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side in SIDES:
                results[side].append(in_process(side, name, arguments))
        seconds = {side: min(result["seconds"] for result in runs) for side, runs in results.items()}
        memory = {side: min(result["gigabytes"] for result in runs) for side, runs in results.items()}
        ratio = seconds["torch"] / seconds["jax"]
        print(
            f"| {name} | {seconds['jax']:.2f} | {seconds['torch']:.2f} | {ratio:.2f} | {memory['jax']:.2f} | "
            f"{memory['torch']:.2f} |",
            flush=True,
        )


def in_process(side: str, name: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, f"--side={side}", f"--cases={name}"]
    command += [f"--repeats={arguments.repeats}", f"--threads={arguments.threads}"]
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root, "OMP_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} ({side}) failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(run: Callable[[], object], repeats: int) -> dict[str, float]:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": min(times), "gigabytes": peak / 1e9}


def jax_side(case: Case, threads: int) -> Callable[[], object]:
    # XLA has no option for its threads; it takes as many as the process may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax
    import jax.numpy as jnp

    from emojax.encoders.families import ComputeOptions, family_of

    config = {"model_type": case.model_type}
    options = ComputeOptions(scan_layers=case.train)  # one layer's temporaries at a time, as fine-tuning wants
    family = family_of(config)
    module = family.build_module(config, family.optional_names, options)
    waveform, lengths = jnp.asarray(audio(case)), jnp.full(case.rows, case.seconds * 16_000)
    shapes = jax.eval_shape(module.init, jax.random.key(0), waveform, lengths)["params"]
    # Made on the host one by one: initialising on the device would be the peak of a short case.
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jax.device_put(random.normal(0, 0.02, leaf.shape).astype(np.float32)), shapes)

    def states(params):
        rngs = {"dropout": jax.random.key(0)} if case.train else None
        output = module.apply({"params": params}, waveform, lengths, train=case.train, rngs=rngs)
        return output.last_hidden_state

    def gradients(params):
        return jax.grad(lambda params: jnp.square(states(params)).mean())(params)

    compiled = jax.jit(gradients if case.train else states).lower(params).compile()
    return lambda: jax.block_until_ready(compiled(params))


def torch_side(case: Case, threads: int) -> Callable[[], object]:
    import torch
    import transformers

    torch.set_num_threads(threads)
    kind = {"hubert": "Hubert", "wavlm": "WavLM"}[case.model_type]
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")())
    waveform = torch.tensor(audio(case))
    if not case.train:
        model.eval()

        def forward() -> None:
            with torch.inference_mode():
                model(waveform)

        return forward

    def step() -> None:
        model.zero_grad()
        model(waveform).last_hidden_state.square().mean().backward()

    model.train()
    return step


def audio(case: Case) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (case.rows, case.seconds * 16_000)).astype(np.float32)


SIDES = {"jax": jax_side, "torch": torch_side}

if __name__ == "__main__":
    main()
