"""Parts of HuBERT-base's forward pass, each alone: where time is spent beyond that of the products.

    python -m benchmarks.encoder_parts [--rows=1] [--seconds=10] [--threads=2] [--rounds=9] [--json=FILE]

Random weights, float32, new inputs in every round, medians. Parts: the convolutions over the waveform (with group norm
and GELU), the positional convolution, a transformer layer. A line has the number of the part in the encoder, its
operations, milliseconds, share of the ceiling (`benchmarks.machine`, at the shapes of the part), and what it takes
beyond its operations at that ceiling, times its number.
"""

import argparse
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import measure_ceiling, print_processor, share
from benchmarks.timing import cores, medians, take_turns, use_cores
from benchmarks.work import work_of
from emojax.encoders.hubert import read_hubert_config
from emojax.encoders.speech_encoder import SpeechLayer
from emojax.encoders.speech_features import FeatureEncoder, PositionalConvolution, num_frames
from emojax.types import SAMPLE_RATE


class Part(NamedTuple):
    """A part: module, how often the encoder has it, shape of its first input, and its other inputs."""

    module: nn.Module
    count: int
    shape: tuple[int, ...]
    others: tuple[Any, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    use_cores(arguments.threads)
    print_processor(arguments.threads)
    print(
        "| part | number | GFLOP | ceiling, GFLOP/s | time | share | beyond the products, all of them |\n|---"
        + "|---" * 6
        + "|"
    )
    found = {}
    for name, part in parts(arguments.rows, int(arguments.seconds * SAMPLE_RATE)).items():
        found[name] = measure(part, arguments.threads, arguments.rounds)
        print(line(name, found[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


def parts(rows: int, samples: int) -> Mapping[str, Part]:
    """Parts of HuBERT-base for recordings of so many samples, none shorter."""
    config = read_hubert_config({"model_type": "hubert"}, mask_embedding=False)
    lengths = jnp.full(rows, samples)
    frames = int(num_frames(samples, config.convolution))
    states, mask = (rows, frames, config.hidden_size), jnp.ones((rows, frames), bool)
    layer = SpeechLayer(config, jnp.float32, train=False)
    return {
        "convolutions over the waveform": Part(FeatureEncoder(config.convolution), 1, (rows, samples), (lengths,)),
        "positional convolution": Part(PositionalConvolution(config), 1, states, (mask,)),
        "transformer layer": Part(layer, config.num_layers, states, (jnp.zeros(()), mask, None)),
    }


def measure(part: Part, threads: int, rounds: int) -> dict[str, Any]:
    """Operations, ceiling and median seconds of a part."""
    params = part.module.init(jax.random.key(0), jnp.zeros(part.shape), *part.others)

    def run(params: Any, inputs: jax.Array) -> Any:
        return part.module.apply(params, inputs, *part.others)

    jitted, work = jax.jit(run), work_of(run, params, jax.ShapeDtypeStruct(part.shape, jnp.float32))

    def fresh(number: int) -> np.ndarray:
        return np.random.default_rng(number).normal(size=part.shape).astype(np.float32)

    times = take_turns({"emojax": lambda inputs: jax.block_until_ready(jitted(params, inputs))}, fresh, rounds)
    ceiling = measure_ceiling(work.products, threads)
    return {"count": part.count, "flops": work.flops, "seconds": medians(times)["emojax"], **ceiling}


def line(name: str, found: Mapping[str, Any]) -> str:
    """Line of the table."""
    beyond = found["count"] * (found["seconds"] - found["flops"] / found["ceiling"] / 1e9)
    numbers = (
        f"{found['count']} | {found['flops'] / 1e9:.2f} | {found['ceiling']:.0f} | {1e3 * found['seconds']:.1f} ms"
    )
    percent = 100 * share(found["flops"], found["seconds"], found)
    return f"| {name} | {numbers} | {percent:.0f} % | {1e3 * beyond:.0f} ms |"


if __name__ == "__main__":
    main()
