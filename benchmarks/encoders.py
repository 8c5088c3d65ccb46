"""Forward pass of encoders beside transformers with PyTorch, eager and compiled, and ONNX Runtime.

    python -m benchmarks.encoders [--cases bert_base hubert_base] [--threads=2] [--rounds=9] [--json=FILE]

All sides compute the same randomly initialised float32 weights, read from the same folder, on the same inputs, new in
every round; threads are equal, sides take turns, medians. PyTorch runs in inference mode with its fused attention
(SDPA), eager and, with a C++ compiler, with `torch.compile`; ONNX Runtime runs PyTorch's own export. A row has the
operations of the case, its ceiling (`benchmarks.machine`, at its shapes, measured after it), seconds and share of the
ceiling of each side, the time of the best peer over that of emojax (above 1: emojax is faster), and the largest
difference of last hidden states between emojax and PyTorch. Needs `pip install -r requirements-benchmarks.txt`.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import torch
import transformers

from benchmarks.machine import measure_ceiling, print_processor, share
from benchmarks.timing import cores, medians, take_turns, use_cores
from benchmarks.work import Work, work_of
from emojax.encoders import Encoder, load_encoder

Run = Callable[[np.ndarray], np.ndarray]
"""Last hidden states (B, T, D) of inputs (B, ...)."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      name: name, of which `--cases` has a part.
      kind: prefix of transformers' class names, e.g. `Bert`.
      config: differences from the default configuration of that kind.
      shape: (rows, tokens or samples per row).
      files: further files of the checkpoint folder, content by name.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    shape: tuple[int, int]
    files: Mapping[str, str]


_VOCABULARY = {"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

TEXT_CASES = (
    Case("bert_base_32x64", "Bert", {}, (32, 64), _VOCABULARY),
    Case("bert_base_8x256", "Bert", {}, (8, 256), _VOCABULARY),
    Case("bert_base_1x16", "Bert", {}, (1, 16), _VOCABULARY),
    Case("bert_large_8x64", "Bert", _LARGE, (8, 64), _VOCABULARY),
)

_WAVEFORM = {"preprocessor_config.json": '{"do_normalize": false, "feature_size": 1, "sampling_rate": 16000}'}
_LARGE_SPEECH = {**_LARGE, "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}

SPEECH_CASES = (
    Case("hubert_base_1x10s", "Hubert", {}, (1, 160_000), _WAVEFORM),
    Case("hubert_base_4x10s", "Hubert", {}, (4, 160_000), _WAVEFORM),
    Case("hubert_base_8x5s", "Hubert", {}, (8, 80_000), _WAVEFORM),
    Case("hubert_base_1x30s", "Hubert", {}, (1, 480_000), _WAVEFORM),
    Case("wavlm_base_4x10s", "WavLM", {}, (4, 160_000), _WAVEFORM),
    Case("wav2vec2_large_1x10s", "Wav2Vec2", _LARGE_SPEECH, (1, 160_000), _WAVEFORM),
)

CASES = (*TEXT_CASES, *SPEECH_CASES)


SIDES = {"emojax": "emojax", "eager": "PyTorch, eager", "compiled": "PyTorch, compiled", "onnx": "ONNX Runtime"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=[""], help="parts of case names; default: all")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--no-onnx", action="store_true", help="without ONNX Runtime")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    use_cores(arguments.threads)
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    results = {"machine": print_processor(arguments.threads), "cases": []}
    results["versions"] = {each.__name__: each.__version__ for each in (jax, torch, transformers, onnxruntime)}
    print(f"| case | GFLOP | ceiling, GFLOP/s | {' | '.join(SIDES.values())} | best peer over emojax | difference |")
    print("|---" * (5 + len(SIDES)) + "|")
    for case in CASES:
        if any(part in case.name for part in arguments.cases):
            results["cases"].append(compare(case, arguments))
            print(row(results["cases"][-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


def row(found: Mapping[str, Any]) -> str:
    """Line of the table."""
    times = [
        f"{found['seconds'][side]:.4f} s, {100 * found['shares'][side]:.0f} %" if side in found["seconds"] else "–"
        for side in SIDES
    ]
    cells = [found["case"], f"{found['flops'] / 1e9:.1f}", f"{found['ceiling']:.0f}", *times]
    return f"| {' | '.join(cells)} | {found['ratio'] or float('nan'):.2f} | {found['difference']:.0e} |"


def compare(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures a case: seconds, shares of the ceiling, ratio, difference."""
    with tempfile.TemporaryDirectory() as folder:
        model = _make_checkpoint(case, pathlib.Path(folder))
        start = time.perf_counter()
        encoder = load_encoder(folder)
        load_seconds = time.perf_counter() - start
    emojax, work = _emojax(encoder, case.shape)
    sides: dict[str, Run] = {"emojax": emojax, "eager": _torch(model)}
    inputs = _inputs(case, encoder, 0)
    difference = float(np.abs(sides["emojax"](inputs) - sides["eager"](inputs)).max())
    if not arguments.no_compile:
        compiled = _torch(torch.compile(model))
        try:
            compiled(inputs)
            sides["compiled"] = compiled
        except Exception as error:
            print(f"{case.name}: torch.compile does not work here ({type(error).__name__})")
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.no_onnx:
            sides["onnx"] = _onnx(model, inputs, pathlib.Path(folder), arguments.threads)
        times = take_turns(sides, lambda number: _inputs(case, encoder, number), arguments.rounds)
    seconds = medians(times)
    ceiling = measure_ceiling(work.products, arguments.threads)
    peers = [seconds[side] for side in seconds if side != "emojax"]
    return {
        "case": case.name,
        "flops": work.flops,
        "seconds": seconds,
        "shares": {side: share(work.flops, each, ceiling) for side, each in seconds.items()},
        "ratio": min(peers) / seconds["emojax"] if peers else None,
        "ratios": {side: each / seconds["emojax"] for side, each in seconds.items()},
        "difference": difference,
        "load_seconds": load_seconds,
        **ceiling,
    }


def _make_checkpoint(case: Case, folder: pathlib.Path) -> torch.nn.Module:
    config = getattr(transformers, f"{case.kind}Config")(**case.config)
    torch.manual_seed(0)
    model = getattr(transformers, f"{case.kind}Model")(config).eval()
    model.save_pretrained(folder)
    for name, content in case.files.items():
        (folder / name).write_text(content)
    return model


def _inputs(case: Case, encoder: Encoder, number: int) -> np.ndarray:
    """Random tokens or noise, new for every number."""
    random = np.random.default_rng(number)
    if encoder.family.modality == "text":
        return random.integers(5, encoder.config["vocab_size"], case.shape)
    return random.normal(size=case.shape).astype(np.float32)


def _emojax(encoder: Encoder, shape: tuple[int, int]) -> tuple[Run, Work]:
    module: Any = encoder.module

    def states(params: Any, inputs: Any, lengths: Any) -> Any:
        return module.apply({"params": params}, inputs, lengths).last_hidden_state

    jitted, lengths = jax.jit(states), jnp.full(shape[0], shape[1])
    dtype = jnp.int32 if encoder.family.modality == "text" else jnp.float32
    work = work_of(states, encoder.params, jax.ShapeDtypeStruct(shape, dtype), lengths)
    return lambda inputs: np.asarray(jitted(encoder.params, jnp.asarray(inputs, dtype), lengths)), work


def _arguments(inputs: np.ndarray) -> dict[str, torch.Tensor]:
    if inputs.dtype.kind == "f":
        return {"input_values": torch.from_numpy(inputs)}
    return {"input_ids": torch.from_numpy(inputs), "attention_mask": torch.ones(inputs.shape, dtype=torch.int64)}


def _onnx(model: Any, example: np.ndarray, folder: pathlib.Path, threads: int) -> Run:
    file = folder / "model.onnx"
    program = torch.onnx.export(model, (), kwargs=_arguments(example), dynamo=True, verbose=False)
    program.save(file, external_data=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(inputs: np.ndarray) -> np.ndarray:
        tensors = _arguments(inputs)
        return session.run(None, {name: tensors[name].numpy() for name in names})[0]

    return run


def _torch(model: Any) -> Run:
    @torch.inference_mode()
    def run(inputs: np.ndarray) -> np.ndarray:
        return model(**_arguments(inputs)).last_hidden_state.numpy()

    return run


if __name__ == "__main__":
    main()
