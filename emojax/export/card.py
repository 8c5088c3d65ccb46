"""Model card and examples of an export: inputs and outputs of files, licence, scores, and code that runs a file."""

from collections.abc import Mapping, Sequence

from emojax.export.description import Description
from emojax.reporting.card import describe_model, front_matter
from emojax.workdir import TrainedModel

ONNX_EXAMPLE = '''"""Predicts a mono WAV file of 16 kHz: python example.py clip.wav"""
import json, sys, wave
import numpy as np, onnxruntime
with wave.open(sys.argv[1]) as file:
    assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
    waveform = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)[None] / 32768
session = onnxruntime.InferenceSession("model.onnx")
outputs = session.run(None, {"waveform": waveform, "num_samples": np.array([waveform.shape[1]])})
for output, values in zip(session.get_outputs(), outputs):
    print(output.name, json.loads(session.get_modelmeta().custom_metadata_map.get(output.name, "[]")), values[0])
'''

ONNX_STREAM_EXAMPLE = '''"""Predicts a mono WAV file of 16 kHz in chunks of 0.1 s: python example_stream.py clip.wav"""
import json, sys, wave
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("stream.onnx")
shapes = json.loads(session.get_modelmeta().custom_metadata_map["stream_state"])
state = {"state_" + name: np.zeros([1, *shape], np.float32) for name, shape in shapes.items()}
names = [output.name for output in session.get_outputs()]
with wave.open(sys.argv[1]) as file:
    while chunk := file.readframes(1600):
        waveform = np.frombuffer(chunk, "<i2").astype(np.float32)[None] / 32768
        outputs = dict(zip(names, session.run(names, {"waveform": waveform, **state})))
        state = {name: outputs[name.replace("state_", "next_")] for name in state}
        if outputs["next_frames"][0, 0]:
            print({name: values[0] for name, values in outputs.items() if name[:5] not in ("next_", "embed")})
'''

_FILES = {
    "model.onnx": "whole clips, any batch and length",
    "model_int8.onnx": "the same with 8-bit weights",
    "stream.onnx": "a stream: chunks of any length, with the state as inputs and outputs",
    "stream_int8.onnx": "the same with 8-bit weights",
    "audonnx/model.onnx": "one clip at a time, for `audonnx.load(FOLDER + '/audonnx')`",
    "model.stablehlo": "whole clips, any batch and length, for `jax.export.deserialize`",
    "stream.stablehlo": "a stream, one call per number of stacked frames",
    "model.safetensors": "weights for `transformers.AutoModelForAudioClassification`",
}


def render_export_card(
    trained: TrainedModel,
    description: Description,
    checks: Mapping[str, str],
    library: str,
    notes: Sequence[str],
    example: str,
) -> str:
    """The card as Markdown, with the front matter that the Hugging Face Hub reads.

    Args:
      trained: exported model.
      description: its outputs.
      checks: files, and the result of the comparison of each with the model.
      library: library that loads the files, as the Hub names it.
      notes: sentences on what was not exported, and limits of the files.
      example: code of `example.py`.
    """
    lines = ["---", *front_matter(trained, library), "---", "", f"# {description.name}", ""]
    lines += ["Exported from emojax; the files need neither emojax nor its packages.", "", "## Files", ""]
    lines += [f"- `{name}`: {_FILES[name]}. Compared with the model: {result}." for name, result in checks.items()]
    lines += [f"- {note}" for note in notes]
    lines += ["", "## Inputs and outputs", "", *_interface(description), "", *describe_model(trained)]
    lines += ["", "## Example", "", "```python", *example.rstrip().splitlines(), "```", ""]
    return "\n".join(lines)


def _interface(description: Description) -> list[str]:
    low, high = description.scale
    lines = [
        "- `waveform`: float32 (batch, samples), 16 kHz mono, full scale 1.0. `num_samples`: int64 (batch), samples of "
        "each row; what follows them never matters. Files of single clips, and of streams, take no `num_samples`.",
    ]
    if description.attributes:
        lines.append(
            f"- `attributes`: (batch, {len(description.attributes)}), {', '.join(description.attributes)}, on the "
            f"scale {low:g} to {high:g}."
        )
    if description.categories:
        order = ", ".join(description.categories)
        lines.append(f"- `categories`: (batch, {len(description.categories)}), probabilities of {order}.")
    if description.rating_values:
        lines.append(
            "- `ratings`: (batch, attributes, values), probabilities of the values `rating_values` of the file."
        )
    lines.append("- `embedding`: (batch, units), the input of the output layers.")
    lines.append(f"- Clips shorter than {description.min_samples} samples are extended by zeros.")
    if description.max_samples:
        lines.append(f"- Clips have at most {description.max_samples} samples; divide longer ones and average.")
    if description.window_seconds:
        lines.append(
            f"- emojax divides clips into windows of {description.window_seconds:g} s and averages; these files do not."
        )
    return lines
