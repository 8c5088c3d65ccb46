"""Processor of a CPU benchmark, and its ceiling: GFLOP/s of the fastest float32 product.

    python -m benchmarks.machine [--products=2048x768x3072,...] [--threads=2] [--rounds=5] [--json=FILE]

The ceiling is the speed of the fastest product of XLA, PyTorch and ONNX Runtime, at the shapes (rows x inner x columns)
that take most operations of the benchmarked model, a convolution as the product over its taps, and at one large square
shape. A benchmark measures it in its own run, by this module in another process with the same cores and number of
threads: new rows in every call and a constant matrix, as in a layer; two rounds of warm-up, libraries in turn, medians.
Products below 0.1 GFLOP are computed several times per call.

A share of the ceiling is the number of operations (`benchmarks.work`) divided by time and ceiling.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.timing import cores, medians, take_turns, use_cores

ROOT = Path(__file__).resolve().parents[1]

_VECTOR_EXTENSIONS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_tile": "AMX",
    "asimd": "NEON",
    "sve": "SVE",
    "sve2": "SVE2",
}
_LEAST_FLOPS = 10**8


class Product(NamedTuple):
    """Shapes of a matrix product."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Operations."""
        return 2 * math.prod(self)

    def __str__(self) -> str:
        return "x".join(map(str, self))


SQUARE = Product(2048, 2048, 2048)
"""A shape at which libraries are close to their highest speed."""


def print_processor(threads: int | None = None) -> dict[str, Any]:
    """Prints and returns the processor, its vector extensions, cores, threads (by default, of all cores) and load."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    details = ("cpu family", "model", "CPU implementer", "CPU part")
    name = fields.get("model name") or platform.processor() or platform.machine()
    name = ", ".join([name, *(f"{detail} {fields[detail]}" for detail in details if detail in fields)])
    names = {*fields.get("flags", fields.get("Features", "")).split()}
    names |= {"asimd"} if platform.machine() in ("arm64", "aarch64") else set()
    found = {
        "processor": name,
        "vector_extensions": [title for flag, title in _VECTOR_EXTENSIONS.items() if flag in names],
        "cores": cores(),
        "cores_of_machine": os.cpu_count(),
        "threads": threads or cores(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(
        f"{name}; {', '.join(found['vector_extensions'])}; {found['cores']} of {found['cores_of_machine']} cores, "
        f"{found['threads']} threads, load {found['load']}"
    )
    return found


def print_machine(products: Sequence[Product] = (), threads: int | None = None) -> dict[str, Any]:
    """Prints and returns the processor and the ceiling at these products."""
    found = print_processor(threads) | measure_ceiling(products, threads)
    for product, rates in found["products"].items():
        print(f"  {product} float32: " + ", ".join(f"{library} {rate:.1f}" for library, rate in rates.items()))
    print(f"ceiling {found['ceiling']:.1f} GFLOP/s\n", flush=True)
    return found


def measure_ceiling(products: Sequence[Product], threads: int | None = None, rounds: int = 5) -> dict[str, Any]:
    """Measures in a process of its own.

    Args:
      products: shapes, besides `SQUARE`.
      threads: of each library; default: as many as this process may use cores.
      rounds: timed calls of each.

    Returns:
      GFLOP/s: `products` by shape and library, `ceiling` the highest.
    """
    command = [sys.executable, "-m", "benchmarks.machine", "--child", f"--threads={threads or cores()}"]
    command += [f"--rounds={rounds}", f"--products={','.join(map(str, products))}"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rates: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return {"products": rates, "ceiling": max(rate for libraries in rates.values() for rate in libraries.values())}


def share(flops: float, seconds: float, machine: Mapping[str, Any]) -> float:
    """Share of the ceiling that a time corresponds to."""
    return float(flops / seconds / (1e9 * machine["ceiling"]))


def _measure(product: Product, threads: int, rounds: int) -> dict[str, float]:
    """GFLOP/s of each library that is installed."""
    import jax.numpy as jnp

    rows = max(1, min(product.rows, SQUARE.flops // (2 * product.inner * product.columns)))
    product = product._replace(rows=rows)
    repeats = max(1, _LEAST_FLOPS // product.flops)
    matrix = np.random.default_rng(0).random((product.inner, product.columns), np.float32) - 0.5
    sides = {"XLA": _xla(matrix, repeats)}
    if importlib.util.find_spec("torch"):
        sides["PyTorch"] = _torch(matrix, threads)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        sides["ONNX Runtime"] = _onnx(matrix, product.rows, threads)

    def fresh(number: int) -> tuple[np.ndarray, Any]:
        random = np.random.default_rng(number + 1)
        left = random.random((repeats, product.rows, product.inner), np.float32) - 0.5
        return left, jnp.asarray(left).block_until_ready()

    seconds = medians(take_turns(sides, fresh, rounds))
    return {name: round(1e-9 * repeats * product.flops / each, 2) for name, each in seconds.items()}


_Side = Callable[[tuple[np.ndarray, Any]], Any]


def _xla(matrix: np.ndarray, repeats: int) -> _Side:
    import jax
    import jax.numpy as jnp

    def multiply(left: Any, right: Any) -> Any:
        return left[0] @ right if repeats == 1 else jax.lax.map(lambda rows: rows @ right, left)

    jitted, right = jax.jit(multiply), jnp.asarray(matrix)
    return lambda inputs: jitted(inputs[1], right).block_until_ready()


def _torch(matrix: np.ndarray, threads: int) -> _Side:
    import torch

    torch.set_num_threads(threads)
    weight = torch.from_numpy(matrix.T.copy())  # stored as in `nn.Linear`

    @torch.inference_mode()
    def multiply(inputs: tuple[np.ndarray, Any]) -> None:
        for rows in torch.from_numpy(inputs[0]):
            torch.nn.functional.linear(rows, weight)

    return multiply


def _onnx(matrix: np.ndarray, rows: int, threads: int) -> _Side:
    import onnx
    import onnxruntime

    kinds = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["rows", "matrix"], ["product"])],
        "product",
        [onnx.helper.make_tensor_value_info("rows", kinds, [rows, matrix.shape[0]])],
        [onnx.helper.make_tensor_value_info("product", kinds, [rows, matrix.shape[1]])],
        [onnx.numpy_helper.from_array(matrix, "matrix")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def multiply(inputs: tuple[np.ndarray, Any]) -> None:
        for left in inputs[0]:
            session.run(None, {"rows": left})

    return multiply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", default="", help="shapes as ROWSxINNERxCOLUMNS, separated by commas")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = [Product(*map(int, shape.split("x"))) for shape in options.products.split(",") if shape]
    use_cores(options.threads)
    if options.child:
        products = dict.fromkeys([*shapes, SQUARE])
        print(json.dumps({str(each): _measure(each, options.threads, options.rounds) for each in products}))
        return
    found = print_machine(shapes, options.threads)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
