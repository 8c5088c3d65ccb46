"""Parts of HuBERT-base's forward pass, each alone: where time is spent beyond that of the products.

    python -m benchmarks.encoder_parts [--rows=1] [--seconds=10] [--threads=2] [--rounds=9] [--json=FILE]

Random weights, float32, new inputs in every round, medians. Parts: the convolutions over the waveform (with group norm
and GELU), the positional convolution, a transformer layer, its feed-forward part, and the two products of that without
bias and GELU; then the whole encoder. A line has the number of the part in the encoder, its operations, milliseconds,
share of the ceiling (`benchmarks.machine`, one for all parts, at their shapes), what it takes beyond its operations at
that ceiling, times its number, and page faults per call. Where Linux has transparent huge pages on request,
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1` in the environment removes most of these.
"""

import argparse
import json
import pathlib
import resource
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import measure_ceiling, print_processor, share
from benchmarks.timing import cores, medians, take_turns, use_cores
from benchmarks.work import Work, work_of
from emojax.encoders.hubert import read_hubert_config
from emojax.encoders.layers import ACTIVATIONS
from emojax.encoders.mixed_precision import Linear
from emojax.encoders.speech_encoder import SpeechEncoder
from emojax.encoders.speech_features import FeatureEncoder, PositionalConvolution, num_frames
from emojax.encoders.transformer import TransformerLayer
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
    found = {
        name: measure(part, arguments.rounds)
        for name, part in parts(arguments.rows, int(arguments.seconds * SAMPLE_RATE)).items()
    }
    products = dict.fromkeys(product for each in found.values() for product in each.work.products)
    machine = measure_ceiling(list(products), arguments.threads)
    print(f"ceiling {machine['ceiling']:.0f} GFLOP/s\n")
    print("| part | number | GFLOP | time | share | beyond the products, all | page faults |")
    print("|---" * 7 + "|")
    for name, each in found.items():
        print(line(name, each, machine))
    if arguments.json:
        rows = {name: each._asdict() | {"work": each.work.flops} for name, each in found.items()}
        arguments.json.write_text(json.dumps({"parts": rows, **machine}, indent=2))


def parts(rows: int, samples: int) -> Mapping[str, Part]:
    """Parts of HuBERT-base for recordings of so many samples, none shorter."""
    config = read_hubert_config({"model_type": "hubert"}, mask_embedding=False)
    lengths = jnp.full(rows, samples)
    frames = int(num_frames(samples, config.convolution))
    states, mask = (rows, frames, config.hidden_size), jnp.ones((rows, frames), bool)
    layer = TransformerLayer(config, jnp.float32, train=False)
    return {
        "convolutions over the waveform": Part(FeatureEncoder(config.convolution), 1, (rows, samples), (lengths,)),
        "positional convolution": Part(PositionalConvolution(config), 1, states, (mask,)),
        "transformer layer": Part(layer, config.num_layers, states, (jnp.zeros(()), mask, None)),
        "its feed-forward part": Part(FeedForward(config.intermediate_size, True), config.num_layers, states, ()),
        "products of that alone": Part(FeedForward(config.intermediate_size, False), config.num_layers, states, ()),
        "whole encoder": Part(SpeechEncoder(config), 1, (rows, samples), (lengths,)),
    }


class FeedForward(nn.Module):
    """Feed-forward part of a layer, with bias and GELU or without both."""

    inner_size: int
    complete: bool

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        """Computes the part, of the width of its input."""
        inner = Linear(self.inner_size, jnp.float32, use_bias=self.complete)(states)
        inner = ACTIVATIONS["gelu"](inner) if self.complete else inner
        return Linear(states.shape[-1], jnp.float32, use_bias=self.complete)(inner)


class Measured(NamedTuple):
    """Number of a part in the encoder, its operations, median seconds, and page faults of the last call."""

    count: int
    work: Work
    seconds: float
    faults: int


def measure(part: Part, rounds: int) -> Measured:
    """Measures a part."""
    params = part.module.init(jax.random.key(0), jnp.zeros(part.shape), *part.others)

    def run(params: Any, inputs: jax.Array) -> Any:
        return part.module.apply(params, inputs, *part.others)

    jitted, work = jax.jit(run), work_of(run, params, jax.ShapeDtypeStruct(part.shape, jnp.float32))
    faults = []

    def fresh(number: int) -> np.ndarray:
        return np.random.default_rng(number).normal(size=part.shape).astype(np.float32)

    def call(inputs: np.ndarray) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        jax.block_until_ready(jitted(params, inputs))
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    seconds = medians(take_turns({"emojax": call}, fresh, rounds))["emojax"]
    return Measured(part.count, work, seconds, faults[-1])


def line(name: str, found: Measured, machine: Mapping[str, Any]) -> str:
    """Line of the table."""
    count, work, seconds, faults = found
    beyond = count * (seconds - work.flops / machine["ceiling"] / 1e9)
    percent = 100 * share(work.flops, seconds, machine)
    numbers = f"{count} | {work.flops / 1e9:.2f} | {1e3 * seconds:.1f} ms | {percent:.0f} % | {1e3 * beyond:.0f} ms"
    return f"| {name} | {numbers} | {faults:,} |"


if __name__ == "__main__":
    main()
