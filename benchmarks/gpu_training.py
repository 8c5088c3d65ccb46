"""Fine-tuning step of HuBERT on one GPU: emojax beside transformers with PyTorch. No download, no corpus.

    python -m benchmarks.gpu_training [--json=gpu.json] [--seconds=240] [--preset=full|tiny] [--side=both|jax|torch]
        [--only=REGEX] [--profile=20]

A step is forward, backward, clipping and AdamW of the whole encoder but its convolutions, as in
configs/finetune_hubert.py, in bfloat16 with float32 parameters, on rows of 12 s. Weights are random, built from the
sizes of the checkpoints; every step gets other noise, which lies on the GPU before the clock starts. Both sides have
hidden dropout 0.1, dropout of the head 0.1, no layer drop, no masking of the input (SpecAugment), and no dropout on
attention weights except in rows that name it. The head is mean pooling, a dense layer with tanh, and three outputs; the
loss is CCC. The peer is transformers' `HubertModel` with `attn_implementation="sdpa"`, bfloat16 autocast, fused AdamW,
without an attention mask; "compiled" is `torch.compile` of the convolutions and of each layer. emojax computes with
masks for padding, although nothing is padded, and its frozen convolutions in float32 (TF32 on the GPU).

Both sides run one after the other, each in one process. A row is the median of at least 10 steps after 3, in wall time
with one synchronisation per step; compilation is not in it. Rows run in order of their importance; what would not end
within `--seconds` is skipped. FLOPs are those of `Sizes.flops`: arithmetic of the step once, without rematerialisation.
MFU is against 989 TFLOP/s, the H100 SXM's dense peak in bfloat16, and against the fastest 8192 x 8192 x 8192 product of
either process. Memory is what the compiled program needs for JAX (arguments, results, temporaries), and
`torch.cuda.max_memory_allocated` for PyTorch.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEAK = 989e12
WARM_UP, STEPS = 3, 10
TORCH_SHARE = 0.38
"""Of `--seconds`."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of an encoder, and seconds of a row of a batch."""

    hidden: int
    layers: int
    heads: int
    inner: int
    large: bool
    seconds: float
    channels: int = 512
    taps: int = 128
    groups: int = 16
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)

    @property
    def samples(self) -> int:
        """Samples of a row."""
        return round(16_000 * self.seconds)

    @property
    def frames(self) -> list[int]:
        """Frames of a row after each convolution."""
        found, length = [], self.samples
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            length = (length - kernel) // stride + 1
            found.append(length)
        return found

    def flops(self, batch: int) -> float:
        """Floating-point operations of a step: 2 per multiplication and addition of every product.

        Frozen convolutions: forward only. Projection of the features: forward and gradient of its kernel. Positional
        convolution (2 taps D^2 / groups per frame), layers (8 D^2 + 4 D inner per frame) and attention (4 T D per
        frame): three times the forward pass. Norms, activations, head and optimizer are not counted.
        """
        frames, widths = self.frames, [1, *[self.channels] * (len(self.kernels) - 1)]
        convolutions = sum(
            2 * kernel * width * self.channels * length
            for kernel, width, length in zip(self.kernels, widths, frames, strict=True)
        )
        projection = 2 * self.channels * self.hidden
        position = 2 * self.taps * self.hidden**2 // self.groups
        layer = 8 * self.hidden**2 + 4 * self.hidden * self.inner + 4 * frames[-1] * self.hidden
        return batch * (convolutions + frames[-1] * (2 * projection + 3 * (position + self.layers * layer)))

    def config(self, attention_dropout: float) -> dict[str, Any]:
        """Content of `config.json`."""
        large = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True} if self.large else {}
        return large | {
            "model_type": "hubert",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "conv_dim": [self.channels] * len(self.kernels),
            "conv_kernel": list(self.kernels),
            "conv_stride": list(self.strides),
            "num_conv_pos_embeddings": self.taps,
            "num_conv_pos_embedding_groups": self.groups,
            "hidden_dropout": 0.1,
            "attention_dropout": attention_dropout,
            "activation_dropout": 0.0,
            "feat_proj_dropout": 0.0,
            "layerdrop": 0.0,
            "apply_spec_augment": False,
        }


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
      model: key of the preset.
      batch: rows of a batch.
      remat: emojax: `off`, or what is kept of a layer; PyTorch: `off` or `layers` (gradient checkpointing).
      attention: emojax: `cudnn` or `exact`; PyTorch: `sdpa`.
      mode: emojax: `scan` or `unrolled` layers; PyTorch: `eager` or `compiled`.
      attention_dropout: dropout on attention weights.
    """

    model: str
    batch: int
    remat: str
    attention: str
    mode: str
    attention_dropout: float = 0.0

    @property
    def name(self) -> str:
        """Name in the table and for `--only`."""
        dropout = f", dropout {self.attention_dropout:g}" if self.attention_dropout else ""
        return f"{self.model} {self.batch}: {self.mode}, remat {self.remat}, {self.attention}{dropout}"


PRESETS = {
    "full": {
        "large": Sizes(1024, 24, 16, 4096, True, 12.0),
        "base": Sizes(768, 12, 12, 3072, False, 12.0),
    },
    "tiny": {
        "large": Sizes(32, 2, 4, 48, True, 0.5, channels=16, taps=16, groups=4),
        "base": Sizes(32, 2, 4, 48, False, 0.5, channels=16, taps=16, groups=4),
    },
}


def jax_rows(preset: str) -> list[Row]:
    """Rows of emojax, the most important first."""
    if preset == "tiny":
        return [
            Row("large", 2, "off", "cudnn", "scan"),
            Row("large", 4, "attention", "exact", "scan"),
            Row("base", 2, "off", "exact", "unrolled", 0.1),
        ]
    return [
        Row("large", 32, "off", "cudnn", "scan"),
        Row("large", 32, "off", "cudnn", "unrolled"),
        Row("large", 32, "products", "cudnn", "scan"),
        Row("large", 32, "off", "exact", "scan"),
        Row("large", 64, "off", "cudnn", "scan"),
        Row("large", 64, "attention", "cudnn", "scan"),
        Row("base", 32, "off", "cudnn", "scan"),
        Row("large", 16, "off", "cudnn", "scan"),
        Row("large", 8, "off", "cudnn", "scan"),
        Row("large", 32, "attention", "cudnn", "scan"),
        Row("base", 64, "off", "cudnn", "scan"),
        Row("large", 32, "attention", "exact", "scan"),
        Row("large", 32, "off", "exact", "scan", 0.1),
        Row("large", 64, "attention", "exact", "scan"),
        Row("base", 32, "off", "exact", "scan"),
        Row("base", 32, "off", "cudnn", "unrolled"),
        Row("base", 16, "off", "cudnn", "scan"),
        Row("base", 8, "off", "cudnn", "scan"),
        Row("large", 16, "off", "exact", "scan"),
        Row("large", 8, "off", "exact", "scan"),
    ]


def torch_rows(preset: str) -> list[Row]:
    """Rows of PyTorch, the most important first."""
    if preset == "tiny":
        return [
            Row("large", 2, "off", "sdpa", "eager"),
            Row("large", 4, "layers", "sdpa", "eager", 0.1),
            Row("base", 2, "off", "sdpa", "compiled"),
        ]
    return [
        Row("large", 32, "off", "sdpa", "eager"),
        Row("large", 32, "off", "sdpa", "compiled"),
        Row("large", 64, "off", "sdpa", "eager"),
        Row("large", 16, "off", "sdpa", "eager"),
        Row("large", 8, "off", "sdpa", "eager"),
        Row("base", 32, "off", "sdpa", "eager"),
        Row("base", 32, "off", "sdpa", "compiled"),
        Row("large", 64, "off", "sdpa", "compiled"),
        Row("large", 32, "off", "sdpa", "eager", 0.1),
        Row("base", 64, "off", "sdpa", "eager"),
        Row("large", 16, "off", "sdpa", "compiled"),
        Row("large", 8, "off", "sdpa", "compiled"),
        Row("large", 64, "layers", "sdpa", "eager"),
        Row("base", 64, "off", "sdpa", "compiled"),
        Row("base", 16, "off", "sdpa", "eager"),
        Row("base", 8, "off", "sdpa", "eager"),
    ]


class Clock:
    """Time left to a side, and the longest that a row of it took."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.longest: dict[str, float] = {}

    def allows(self, kind: str) -> bool:
        """Whether a row as long as the longest of its kind, or of all before the first, would end in time."""
        expected = self.longest.get(kind, max(self.longest.values(), default=0.0))
        return time.monotonic() + expected < self.end

    def run(self, kind: str, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measures; an error becomes a result of one line."""
        if not self.allows(kind):
            return {"error": "skipped: no time left"}
        start = time.monotonic()
        try:
            found = measure()
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
        seconds = time.monotonic() - start
        self.longest[kind] = max(self.longest.get(kind, 0.0), seconds)
        shown = f"{found['milliseconds']:.2f} ms" if "milliseconds" in found else found.get("error", "done")
        print(f"{name}: {shown} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        return found | {"seconds": round(seconds, 1)}


def report(kind: str, content: dict[str, Any]) -> None:
    """Writes a result of a side for the process that prints the table."""
    print(json.dumps({"kind": kind, **content}), flush=True)


def median_step(call: Callable[[int], None]) -> dict[str, Any]:
    """Median time of a step; `call` gets its number and returns when it has been computed."""
    times = []
    for number in range(WARM_UP + STEPS):
        start = time.perf_counter()
        call(number)
        times.append(1e3 * (time.perf_counter() - start))
    timed = sorted(times[WARM_UP:])
    return {"milliseconds": round(timed[STEPS // 2], 3), "fastest": timed[0], "slowest": timed[-1], "first": times[0]}


def run_side(side: str, seconds: float, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs a side in a process of its own and returns what it reported until its time was over."""
    command = [sys.executable, "-m", "benchmarks.gpu_training", f"--child={side}", f"--seconds={seconds}"]
    command += [f"--preset={arguments.preset}", f"--only={arguments.only}", f"--profile={arguments.profile}"]
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.93", "TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    killer = threading.Timer(seconds + 15, process.kill)
    killer.start()
    found = []
    for line in process.stdout or ():
        try:
            found.append({"side": side, **json.loads(line)})
        except ValueError:
            print(line, end="", file=sys.stderr)
    if process.wait():
        print(f"{side}: ended with status {process.returncode}", file=sys.stderr)
    killer.cancel()
    return found


def table(found: list[dict[str, Any]], preset: str) -> str:
    """The results as markdown."""
    devices = {each["side"]: each for each in found if each["kind"] == "device"}
    measured = max((each["tflops"] for each in devices.values() if each.get("tflops")), default=None)
    lines = [
        f"{side}: {each['device']}, {each['version']}; product {each.get('tflops')} TFLOP/s"
        for side, each in devices.items()
    ]
    rows = [each for each in found if each["kind"] == "row"]
    best: dict[tuple[str, int], float] = {}
    for each in rows:
        if each["side"] == "torch" and "milliseconds" in each and not each["attention_dropout"]:
            key = each["model"], each["batch"]
            best[key] = min(best.get(key, float("inf")), each["milliseconds"])
    lines += [
        "",
        "| model | batch | side | how | ms | range | TFLOP | MFU of 989 | of product | GiB | PyTorch's best / this |",
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|---|---|"]
    order = {"torch": 0, "jax": 1}
    for each in sorted(rows, key=lambda each: (-len(each["model"]), each["batch"], order[each["side"]])):
        flops = PRESETS[preset][each["model"]].flops(each["batch"])
        how = Row(**{field.name: each[field.name] for field in dataclasses.fields(Row)}).name.split(": ")[1]
        cells = [each["model"], each["batch"], {"jax": "emojax"}.get(each["side"], "PyTorch"), how]
        if "milliseconds" not in each:
            lines.append(
                "| " + " | ".join(map(str, [*cells, each["error"].replace("|", "/")[:120]])) + " | | | | | | |"
            )
            continue
        rate = flops / each["milliseconds"] * 1e3
        of_measured = f"{100e-12 * rate / measured:.1f} %" if measured else ""
        peer = best.get((each["model"], each["batch"]))
        ratio = f"{peer / each['milliseconds']:.2f}" if peer else ""
        cells += [
            f"{each['milliseconds']:.1f}",
            f"{each['fastest']:.1f} to {each['slowest']:.1f}",
            f"{flops / 1e12:.2f}",
        ]
        cells += [f"{100 * rate / PEAK:.1f} %", of_measured, f"{each['gibibytes']:.1f}", ratio]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    parts = [each for each in found if each["kind"] == "part"]
    if parts:
        lines += ["", f"| part of emojax, large, batch {parts[0]['batch']} | ms |", "|---|---|"]
        lines += [f"| {each['name']} | {each.get('milliseconds', each.get('error'))} |" for each in parts]
    for each in found:
        if each["kind"] == "profile":
            lines += ["", f"Kernels of {each['name']}, {each['total']:.1f} ms per step on the GPU:", ""]
            lines += ["| ms | times | kernel | operation |", "|---|---|---|---|"]
            lines += [
                f"| {row['ms']:.2f} | {row['count']} | `{row['kernel']}` | {row['operation']} |" for row in each["top"]
            ]
    return "\n".join(lines)


def main() -> None:
    """Runs both sides and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="full")
    parser.add_argument("--side", choices=["both", "jax", "torch"], default="both")
    parser.add_argument("--seconds", type=float, default=240.0, help="of everything, compilation included")
    parser.add_argument("--only", default="", help="regular expression that names of rows must contain")
    parser.add_argument("--profile", type=int, default=20, help="kernels of the first row of emojax to list; 0: none")
    parser.add_argument("--json", default="", help="also write the results there")
    parser.add_argument("--child", choices=["jax", "torch"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = PRESETS[arguments.preset]
    if arguments.child:
        rows = {"jax": jax_rows, "torch": torch_rows}[arguments.child](arguments.preset)
        rows = [row for row in rows if re.search(arguments.only, row.name)]
        clock = Clock(arguments.seconds)
        if arguments.child == "jax":
            from benchmarks.gpu_training_jax import run
        else:
            from benchmarks.gpu_training_torch import run
        run(rows, sizes, clock, arguments.profile)
        return
    start, found = time.monotonic(), []
    for side in ("torch", "jax") if arguments.side == "both" else (arguments.side,):
        left = arguments.seconds - 5 - (time.monotonic() - start)
        found += run_side(side, left * (TORCH_SHARE if (side, arguments.side) == ("torch", "both") else 1), arguments)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(found, indent=1))
    print(table(found, arguments.preset))
    print(f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
