"""The format `onnx`: files for ONNX Runtime of whole clips and of streams, with 8-bit weights too, and for audonnx."""

import json
from functools import partial
from typing import Any

import numpy as np

from emojax.errors import ConfigError
from emojax.export.card import ONNX_EXAMPLE, ONNX_STREAM_EXAMPLE
from emojax.export.check import (
    Outputs,
    Run,
    check_clips,
    check_single_clips,
    check_stream,
    model_outputs,
    padded,
    quantised_model,
)
from emojax.export.description import Description, check_onnx_model, stream_obstacle
from emojax.export.files import Export, Source
from emojax.export.onnx_model import NUM_SAMPLES, WAVEFORM, clip_model, stream_model
from emojax.inference import Predictor

AUDONNX_VERSION = "1.0.1"
"""Version of audonnx whose YAML file is written."""


def export_onnx(source: Source) -> Export:
    """Writes and compares all variants.

    Raises:
      ConfigError: the model has no ONNX graph, or a package is not installed.
      ExportError: a file differs from the model.
    """
    trained, description, clips = source.trained, source.description, source.clips
    check_onnx_model(trained)
    export = Export("onnx")
    variants = {"": source.predictor, "_int8": Predictor(quantised_model(trained))}
    for suffix, predictor in variants.items():
        content = clip_model(trained, description, quantised=bool(suffix)).SerializeToString()
        check = partial(check_clips, onnx_run(content), predictor, clips, description)
        export.add(f"model{suffix}.onnx", content, check)
    export.note(_rounding(source, variants["_int8"]))
    obstacle = stream_obstacle(trained)
    if obstacle:
        export.note(f"No file for streams: {obstacle}.")
    else:
        for suffix, predictor in variants.items():
            content = stream_model(trained, description, quantised=bool(suffix)).SerializeToString()
            check = partial(check_stream, onnx_session(content), predictor, clips[0], description)
            export.add(f"stream{suffix}.onnx", content, check)
        export.files["example_stream.py"] = ONNX_STREAM_EXAMPLE.encode()
    content = clip_model(trained, description, single=True).SerializeToString()
    check = partial(check_single_clips, onnx_run(content), source.predictor, clips, description)
    export.add("audonnx/model.onnx", content, check)
    export.files["audonnx/model.yaml"] = audonnx_yaml(description).encode()
    export.files["example.py"] = ONNX_EXAMPLE.encode()
    return export


def audonnx_yaml(description: Description) -> str:
    """The file by which `audonnx.load` reads a model: labels of the outputs, in the format of audobject."""
    lines = [f"$audonnx.core.model.Model=={AUDONNX_VERSION}:", "  path: model.onnx", "  labels:"]
    for name in ("attributes", "categories"):
        labels = getattr(description, name)
        lines += [f"    {name}:", *(f"    - {json.dumps(label)}" for label in labels)] if labels else []
    return "\n".join([*lines, "  transform: null", ""])


def onnx_session(content: bytes) -> Any:
    """A session of ONNX Runtime on one core.

    Raises:
      ConfigError: the package is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "--mode=export needs onnxruntime, which is not installed (pip install onnxruntime)"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # warnings about constants that are computed once
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def onnx_run(content: bytes) -> Run:
    """Runs a file of whole clips."""
    session = onnx_session(content)
    takes_lengths = any(each.name == NUM_SAMPLES for each in session.get_inputs())
    names = [output.name for output in session.get_outputs()]

    def run(waveform: np.ndarray, num_samples: np.ndarray) -> Outputs:
        inputs = {WAVEFORM: waveform} | ({NUM_SAMPLES: num_samples.astype(np.int64)} if takes_lengths else {})
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run


def _rounding(source: Source, quantised: Predictor) -> str:
    """Sentence on the effect of 8-bit weights."""
    waveform, num_samples = padded(source.clips)
    name = source.description.outputs[0]
    whole, small = (
        model_outputs(predictor, waveform, num_samples, source.description)[name]
        for predictor in (source.predictor, quantised)
    )
    return f"8-bit weights change {name} by at most {np.abs(whole - small).max():.3f} on these clips."
