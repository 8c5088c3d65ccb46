"""Parts of the forward pass of HuBERT-base or BERT-base, each alone: where time is spent beyond that of the products.

    python -m benchmarks.encoder_parts [--rows=1] [--seconds=10 | --tokens=256] [--threads=2] [--rounds=9] [--json=FILE]

Random weights, float32, new inputs in every round, medians. Parts of HuBERT: the convolutions over the waveform (with
group norm and GELU), the positional convolution; of both (BERT with `--tokens`): a transformer layer, its attention
without projections, its feed-forward part, and the two products of that without bias and GELU; the whole encoder. A
line has the number of the part in the encoder, its operations, milliseconds, share of the ceiling
(`benchmarks.machine`, one for all parts, at their shapes), what it takes beyond its operations at that ceiling, times
its number, and page faults per call. Where Linux has transparent huge pages on request, most of these are removed by
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1` in the environment.
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
from emojax.encoders import ComputeOptions
from emojax.encoders.attention import attend
from emojax.encoders.hubert import read_hubert_config
from emojax.encoders.layers import ACTIVATIONS
from emojax.encoders.mixed_precision import Linear
from emojax.encoders.speech_encoder import SpeechEncoder
from emojax.encoders.speech_features import FeatureEncoder, PositionalConvolution, num_frames
from emojax.encoders.text_transformer import TextTransformer
from emojax.encoders.transformer import TransformerLayer
from emojax.encoders.transformer_config import TransformerConfig
from emojax.planning.architectures import describe_encoder
from emojax.types import SAMPLE_RATE


class Part(NamedTuple):
    """A part: module, how often the encoder has it, shape of its first input, and its other inputs.

    The first input is tokens where there is a vocabulary, and numbers elsewhere.
    """

    module: nn.Module
    count: int
    shape: tuple[int, ...]
    others: tuple[Any, ...]
    vocabulary: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tokens", type=int, help="BERT, rows of so many tokens")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    use_cores(arguments.threads)
    print_processor(arguments.threads)
    rows, samples = arguments.rows, int(arguments.seconds * SAMPLE_RATE)
    chosen = bert_parts(rows, arguments.tokens) if arguments.tokens else hubert_parts(rows, samples)
    found = {name: measure(part, arguments.rounds) for name, part in chosen.items()}
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


def hubert_parts(rows: int, samples: int) -> Mapping[str, Part]:
    """Parts of HuBERT-base for recordings of so many samples, none shorter."""
    config = read_hubert_config({"model_type": "hubert"}, mask_embedding=False)
    lengths = jnp.full(rows, samples)
    frames = int(num_frames(samples, config.convolution))
    states, mask = (rows, frames, config.hidden_size), jnp.ones((rows, frames), bool)
    return {
        "convolutions over the waveform": Part(FeatureEncoder(config.convolution), 1, (rows, samples), (lengths,)),
        "positional convolution": Part(PositionalConvolution(config), 1, states, (mask,)),
        **layer_parts(config, rows, frames),
        "whole encoder": Part(SpeechEncoder(config), 1, (rows, samples), (lengths,)),
    }


def bert_parts(rows: int, tokens: int) -> Mapping[str, Part]:
    """Parts of BERT-base for so many texts of a number of tokens."""
    module = describe_encoder("google-bert/bert-base-uncased", ComputeOptions()).module
    assert isinstance(module, TextTransformer)
    whole = Part(module, 1, (rows, tokens), (jnp.full(rows, tokens),), module.config.vocab_size)
    return {**layer_parts(module.config, rows, tokens), "whole encoder": whole}


def layer_parts(config: TransformerConfig, rows: int, frames: int) -> Mapping[str, Part]:
    """A transformer layer and its parts."""
    states, mask = (rows, frames, config.hidden_size), jnp.ones((rows, frames), bool)
    layer = TransformerLayer(config, jnp.float32, train=False)
    return {
        "transformer layer": Part(layer, config.num_layers, states, (jnp.zeros(()), mask, None)),
        "its attention": Part(Attention(config.num_heads), config.num_layers, states, (mask,)),
        "its feed-forward part": Part(FeedForward(config.intermediate_size, True), config.num_layers, states, ()),
        "products of that alone": Part(FeedForward(config.intermediate_size, False), config.num_layers, states, ()),
    }


class Attention(nn.Module):
    """Attention of states to themselves, without projections."""

    num_heads: int

    @nn.compact
    def __call__(self, states: jax.Array, mask: jax.Array) -> jax.Array:
        """Computes the part."""
        return attend(states, states, states, mask, self.num_heads)


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
    dtype = jnp.int32 if part.vocabulary else jnp.float32
    params = part.module.init(jax.random.key(0), jnp.zeros(part.shape, dtype), *part.others)

    def run(params: Any, inputs: jax.Array) -> Any:
        return part.module.apply(params, inputs, *part.others)

    jitted, work = jax.jit(run), work_of(run, params, jax.ShapeDtypeStruct(part.shape, dtype))
    faults = []

    def fresh(number: int) -> np.ndarray:
        random = np.random.default_rng(number)
        if part.vocabulary:
            return random.integers(0, part.vocabulary, part.shape, np.int32)
        return random.normal(size=part.shape).astype(np.float32)

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
