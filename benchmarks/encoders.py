"""How fast are our encoders beside transformers with PyTorch? Prints one line per case and writes JSON.

    python -m benchmarks.encoders --cases bert --json encoders.json

Both compute the same randomly initialised weights, read from the same folder, on the same inputs; the largest
difference of their outputs is printed too. PyTorch runs in inference mode with its fused attention, eagerly and, where
a C++ compiler is there, through `torch.compile`; ONNX Runtime runs an export of the PyTorch model. A ratio is the
other's time over ours, PyTorch's being the faster of its two: above 1 ours is faster. Times are medians of several
rounds in which the contestants take turns, so that load on the machine hits all of them. Needs
`pip install -r requirements-benchmarks.txt`.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
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

from emojax.encoders import Encoder, load_encoder

_CALLS_PER_TURN = 2
_WARM_UP_TURNS = 2


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      name: what `--cases` selects by, as a part of it.
      kind: prefix of transformers' class names, e.g. `Bert`.
      config: what differs from the default configuration of that kind.
      shape: (rows, tokens or samples per row).
      files: further files the checkpoint folder needs: name -> content.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=[""], help="parts of case names; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--no-onnx", action="store_true", help="leave out ONNX Runtime")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    results = []
    for case in CASES:
        if any(part in case.name for part in arguments.cases):
            results.append(compare(case, arguments.rounds, not arguments.no_compile, not arguments.no_onnx))
            print("  ".join(f"{key}={value}" for key, value in results[-1].items()), flush=True)
    if arguments.json:
        versions = {"jax": jax.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
        machine = {"cores": os.cpu_count(), "device": jax.devices()[0].device_kind}
        arguments.json.write_text(json.dumps({"machine": machine, "versions": versions, "cases": results}, indent=2))


def compare(case: Case, rounds: int, with_compile: bool, with_onnx: bool) -> dict[str, Any]:
    """Times in seconds, ratios, and the largest difference of the outputs."""
    with tempfile.TemporaryDirectory() as folder:
        model = _make_checkpoint(case, pathlib.Path(folder))
        start = time.perf_counter()
        encoder = load_encoder(folder)
        load_seconds = time.perf_counter() - start
    inputs = _inputs(case, encoder)
    contestants = {"ours": _ours(encoder, inputs), "eager": _theirs(model, inputs)}
    expected = contestants["eager"]()
    difference = float(np.abs(contestants["ours"]() - expected).max())
    if with_compile:
        compiled = _theirs(torch.compile(model), inputs)
        try:
            compiled()
            contestants["compiled"] = compiled
        except Exception as error:
            print(f"{case.name}: torch.compile does not work here ({type(error).__name__})")
    with tempfile.TemporaryDirectory() as folder:
        if with_onnx:
            contestants["onnx"] = _onnx(model, inputs, pathlib.Path(folder))
        times = _take_turns(contestants, rounds)
    torch_seconds = min(times[name] for name in ("eager", "compiled") if name in times)
    return {
        "case": case.name,
        **{f"{name}_s": round(seconds, 4) for name, seconds in times.items()},
        "torch_ratio": round(torch_seconds / times["ours"], 2),
        **({"onnx_ratio": round(times["onnx"] / times["ours"], 2)} if with_onnx else {}),
        "difference": float(f"{difference:.2g}"),
        "load_s": round(load_seconds, 2),
    }


def _make_checkpoint(case: Case, folder: pathlib.Path) -> torch.nn.Module:
    config = getattr(transformers, f"{case.kind}Config")(**case.config)
    torch.manual_seed(0)
    model = getattr(transformers, f"{case.kind}Model")(config).eval()
    model.save_pretrained(folder)
    for name, content in case.files.items():
        (folder / name).write_text(content)
    return model


def _inputs(case: Case, encoder: Encoder) -> np.ndarray:
    random = np.random.default_rng(0)
    if encoder.family.modality == "text":
        return random.integers(5, encoder.config["vocab_size"], case.shape)
    return random.normal(size=case.shape).astype(np.float32)


def _ours(encoder: Encoder, inputs: np.ndarray) -> Callable[[], np.ndarray]:
    module: Any = encoder.module
    apply = jax.jit(lambda *arguments: module.apply(*arguments).last_hidden_state)
    array = jnp.asarray(inputs)
    lengths = jnp.full(len(inputs), inputs.shape[1])
    return lambda: np.asarray(apply({"params": encoder.params}, array, lengths))


def _arguments(inputs: np.ndarray) -> dict[str, torch.Tensor]:
    if inputs.dtype.kind == "f":
        return {"input_values": torch.tensor(inputs)}
    return {"input_ids": torch.tensor(inputs), "attention_mask": torch.ones(inputs.shape, dtype=torch.int64)}


def _onnx(model: Any, inputs: np.ndarray, folder: pathlib.Path) -> Callable[[], np.ndarray]:
    file = folder / "model.onnx"
    program = torch.onnx.export(model, (), kwargs=_arguments(inputs), dynamo=True, verbose=False)
    program.save(file, external_data=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    tensors = {name: tensor.numpy() for name, tensor in _arguments(inputs).items()}
    feed = {node.name: tensors[node.name] for node in session.get_inputs()}
    return lambda: session.run(None, feed)[0]


def _theirs(model: Any, inputs: np.ndarray) -> Callable[[], np.ndarray]:
    arguments = _arguments(inputs)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return model(**arguments).last_hidden_state.numpy()

    return run


def _take_turns(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + _WARM_UP_TURNS):
        for name, run in contestants.items():
            for _ in range(_CALLS_PER_TURN):
                start = time.perf_counter()
                run()
                if turn >= _WARM_UP_TURNS:
                    times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


if __name__ == "__main__":
    main()
