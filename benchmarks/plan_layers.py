"""Plan of the transformer layers of an encoder alone, mostly with gradients: operations, memory traffic, bounds.

    python -m benchmarks.plan_layers --checkpoint=facebook/hubert-large-ll60k --rows=8 --saves=products

Compiled for one chip of a TPU, which need not exist (libtpu must be installed), in minutes, where a whole step takes
many. All figures are predicted: see docs/scaling.md.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.encoders import ComputeOptions
from emojax.encoders.layers import REMAT_SAVES
from emojax.encoders.transformer import LayerStack
from emojax.parallel import MeshConfig, make_mesh, replicated, with_mesh
from emojax.planning.architectures import describe_encoder
from emojax.planning.chips import count_flops, find_chip, topology_devices
from emojax.planning.hlo import parse_program
from emojax.planning.loops import compiler_cycles
from emojax.planning.traffic import traffic


class Layers(LayerStack):
    """The layers of an encoder."""

    @nn.compact
    def __call__(self, states: Any, mask: Any, bias: Any, train: bool) -> Any:
        """Computes the output of the last layer."""
        return self.run_layers(states, mask, bias, train, False)[0]


def main() -> None:
    """Compiles the layers for one chip and prints the largest shares of their traffic."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="facebook/hubert-large-ll60k")
    parser.add_argument("--rows", type=int, default=8, help="rows of the chip")
    parser.add_argument("--frames", type=int, default=599, help="frames of 20 ms, or tokens")
    parser.add_argument("--saves", default="products", choices=["off", *REMAT_SAVES], help="what remat keeps")
    parser.add_argument("--forward", action="store_true", help="forward alone, without dropout, as of a teacher")
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--output", default="", help="JSON file")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    chip = find_chip(arguments.topology)
    mesh = make_mesh(MeshConfig(1, 1, 1), topology_devices(arguments.topology)[:1])
    sizes: Any = describe_encoder(arguments.checkpoint, ComputeOptions()).module.config
    remat = arguments.saves != "off"
    saves = arguments.saves if remat else "nothing"
    layers = Layers(sizes, jnp.dtype(jnp.bfloat16), remat, True, saves)

    def array(*lengths: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(lengths, dtype, sharding=replicated(mesh))

    states = array(arguments.rows, arguments.frames, sizes.hidden_size)
    mask = array(arguments.rows, arguments.frames, dtype=jnp.bool_)
    biased = getattr(sizes, "num_buckets", 0) > 0  # WavLM
    bias = array(sizes.num_heads, arguments.frames, arguments.frames) if biased else None
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    params = jax.eval_shape(lambda *inputs: layers.init(rngs, *inputs, False), states, mask, bias)
    params = jax.tree.map(lambda leaf: array(*leaf.shape, dtype=leaf.dtype), params)

    def computed(params: Any, states: Any, mask: Any, bias: Any) -> Any:
        if arguments.forward:
            return layers.apply(params, states, mask, bias, False)

        def loss(params: Any, states: Any) -> jax.Array:
            return jnp.sum(layers.apply(params, states, mask, bias, True, rngs={"dropout": jax.random.key(1)}) ** 2)

        return jax.grad(loss, argnums=(0, 1))(params, states)

    traced = jax.jit(with_mesh(computed, mesh)).trace(params, states, mask, bias)
    compiled = traced.lower().compile()
    program = parse_program(compiled.as_text())
    rows, memory = traffic(program), compiled.memory_analysis()
    cycles = compiler_cycles(program)
    found = {
        "flops": count_flops(traced.jaxpr),
        "compute_seconds": count_flops(traced.jaxpr) / chip.flops,
        "bytes": sum(row.bytes for row in rows),
        "memory_seconds": sum(row.bytes for row in rows) / chip.hbm_bandwidth,
        "compiler_seconds": cycles / chip.clock if cycles and chip.clock else None,
        "temporary_bytes": memory.temp_size_in_bytes,
        "traffic": [dataclasses.asdict(row) for row in rows[:20]],
    }
    for row in rows[:20]:
        print(f"{row.bytes / 2**20:10.1f} MiB {row.count:5} times  {row.operation}, {row.array} {row.source}")
    print(json.dumps({name: value for name, value in found.items() if name != "traffic"}))
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
