"""The format `huggingface`: a folder that `transformers.AutoModelForAudioClassification` loads, or one with ONNX files.

The class of transformers has an encoder, a mean of its layers with learned weights, a dense layer on every frame, the
mean over frames, and a dense layer. emojax's model is the same function where its network is a mean and a dense layer
without activation: the dense layers are linear, so that the order does not matter, and the normalisation of hidden
states becomes part of the first of them.
"""

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from emojax.encoders import resolve_layers
from emojax.encoders.checkpoint_files import read_json_config
from emojax.encoders.families import Family
from emojax.encoders.hubert import FAMILIES
from emojax.encoders.tensor_table import invert
from emojax.encoders.waveform_inputs import PREPROCESSOR_FILE
from emojax.errors import ConfigError
from emojax.evaluation.windows import softmax
from emojax.export.check import Outputs, Run, check_single_clips
from emojax.export.files import Export, Source
from emojax.export.onnx_files import export_onnx
from emojax.models import EmotionModelConfig
from emojax.types import SAMPLE_RATE
from emojax.workdir import ENCODERS, TrainedModel

EXAMPLE = '''"""Predicts a mono WAV file of 16 kHz with PyTorch: python example.py clip.wav"""
import sys, wave
import numpy as np, torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
with wave.open(sys.argv[1]) as file:
    assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
    waveform = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
model = AutoModelForAudioClassification.from_pretrained(".").eval()
inputs = AutoFeatureExtractor.from_pretrained(".")(waveform, sampling_rate=16000, return_tensors="pt")
with torch.no_grad():
    logits = model(inputs.input_values).logits[0]
print({model.config.id2label[row]: float(value) for row, value in enumerate(logits)})
'''

_UNUSED = -1e4
"""Score of a layer whose softmax is to be 0."""


def export_huggingface(source: Source) -> Export:
    """Writes and compares a folder for transformers where the architecture allows it; else ONNX files.

    Raises:
      ConfigError: neither can be written, or PyTorch is not installed.
      ExportError: a file differs from the model.
    """
    obstacle = transformers_obstacle(source.trained)
    if obstacle:
        try:
            export = export_onnx(source)
        except ConfigError as error:
            raise ConfigError(f"{error}; transformers has no such model either: {obstacle}") from error
        export.note(f"transformers has no such model ({obstacle}): the folder has ONNX files.")
        return export
    export = Export("transformers")
    files = model_files(source)
    check = partial(check_single_clips, _torch_run(files, source), source.predictor, source.clips, source.description)
    export.add("model.safetensors", files.pop("model.safetensors"), check)
    export.files |= files
    export.files["example.py"] = EXAMPLE.encode()
    export.note("One clip at a time: transformers computes padded batches of some encoders differently.")
    if source.trained.config.model.clip_attributes and source.description.attributes:
        export.note("Attributes beyond an end of the scale are not set to it, as emojax does.")
    if source.description.categories and source.description.attributes:
        rows = len(source.description.attributes)
        export.note(f"Rows {rows} and later of the logits are those of categories; take the softmax of them alone.")
    return export


def transformers_obstacle(trained: TrainedModel) -> str | None:
    """Reason why transformers has no class for a model; None if it has."""
    config = trained.config.model
    if config.modalities != ("acoustic",):
        return f"model.modalities must be ('acoustic',), got {config.modalities}"
    settings, network, part = config.acoustic, config.acoustic.network, trained.model.encoders["acoustic"]
    family = _family(trained)
    if family is None:
        return f"the encoder must be one of {', '.join(FAMILIES)}"
    if getattr(part.inputs, "settings").waveform_std is not None:  # noqa: B009
        return "the waveform is normalised by statistics of training data"
    if network.gru_layers or network.conv_channels or network.block_dilations:
        return "network must have neither GRU layers nor convolutions"
    if network.pooling != "mean" or settings.pooling == "statistics":
        return f"pooling must be 'mean', got {network.pooling!r} after {settings.pooling!r}"
    if network.embedding_activation != "none" or network.embedding_norm:
        return "the embedding must have no activation and no norm"
    if config.rating_bins:
        return f"model.rating_bins must be 0, got {config.rating_bins}"
    layers = resolve_layers(settings.layers, part.num_layers, "model.acoustic.layers")
    if len(layers) > 1 and settings.combine == "concatenate":
        return "layers must not be concatenated"
    if len(set(layers)) < len(layers):
        return "layers must be different"
    if len(layers) > 1 and settings.combine == "weighted" and settings.normalisation == "corpus":
        return "several weighted layers must not be normalised one by one (model.acoustic.normalisation)"
    return None


def model_files(source: Source) -> dict[str, bytes]:
    """Content of `config.json`, `preprocessor_config.json` and `model.safetensors`."""
    from safetensors.numpy import save

    trained, description = source.trained, source.description
    settings, part = trained.config.model.acoustic, trained.model.encoders["acoustic"]
    folder = trained.workdir / ENCODERS / "acoustic"
    published, family = read_json_config(folder), _family(trained)
    assert family is not None  # `transformers_obstacle`
    params = jax.device_get(trained.variables["params"])
    table = family.tensor_table(published, settings.scan_layers)
    prefix = family.model_type
    tensors = {f"{prefix}.{name}": values for name, values in invert(params["acoustic"]["encoder"], table)}
    mask = f"{prefix}.masked_spec_embed"
    if mask not in tensors and (published.get("mask_time_prob", 0.05) or published.get("mask_feature_prob", 0)):
        tensors[mask] = np.zeros(part.num_features, np.float32)  # used in training alone
    layers = resolve_layers(settings.layers, part.num_layers, "model.acoustic.layers")
    weighted = layers != (part.num_layers,)
    if weighted:
        scores = np.full(part.num_layers + 1, _UNUSED, np.float32)
        learned = settings.combine == "weighted" and len(layers) > 1
        scores[list(layers)] = params["acoustic"]["layer_scores"] if learned else 0.0
        tensors["layer_weights"] = scores
    kernel, bias = _projector(trained, params, part.num_features)
    tensors |= {"projector.weight": kernel.T, "projector.bias": bias}
    kernel, bias = _classifier(source, params["heads"])
    tensors |= {"classifier.weight": kernel.T, "classifier.bias": bias}
    labels = [*description.attributes, *description.categories]
    config = {
        **published,
        "architectures": [family.architecture.removesuffix("Model") + "ForSequenceClassification"],
        "num_hidden_layers": part.num_layers,
        "use_weighted_layer_sum": weighted,
        "tie_last_hidden_states": True,  # the last of the weighted hidden states is after the final norm
        "classifier_proj_size": len(tensors["projector.bias"]),
        "id2label": {str(row): label for row, label in enumerate(labels)},
        "label2id": {label: row for row, label in enumerate(labels)},
        "problem_type": "regression",
        "dtype": "float32",
        "emojax": description.tree(),
    }
    config.pop("torch_dtype", None)
    contiguous = {name: np.ascontiguousarray(values, np.float32) for name, values in tensors.items()}
    inputs = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        **getattr(part.inputs, "content"),  # noqa: B009
        "sampling_rate": SAMPLE_RATE,
        "do_normalize": getattr(part.inputs, "settings").do_normalize,  # noqa: B009
    }
    return {
        "config.json": _json(config),
        PREPROCESSOR_FILE: _json(inputs),
        "model.safetensors": save(contiguous, {"format": "pt", **description.texts()}),
    }


def _projector(trained: TrainedModel, params: Mapping[str, Any], num_features: int) -> tuple[np.ndarray, np.ndarray]:
    """The embedding layer (or the identity), after the normalisation of hidden states."""
    config: EmotionModelConfig = trained.config.model
    kernel, bias = np.eye(num_features), np.zeros(num_features)
    if config.acoustic.network.embedding_size:
        layer = params["acoustic_network"]["embedding"]
        kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    if config.acoustic.normalisation == "corpus":
        statistics = jax.device_get(trained.variables["statistics"]["acoustic"])
        mean, std = (np.asarray(statistics[name], np.float64)[0] for name in ("mean", "std"))
        kernel = kernel / std[:, None]
        bias = bias - mean @ kernel
    return kernel, bias


def _classifier(source: Source, heads: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the attributes, in the scale of the corpus, then those of the categories."""
    description = source.description
    low, high = description.scale
    kernels, biases = [], []
    if description.attributes:
        columns = description.columns
        kernels.append((high - low) * np.asarray(heads["attributes"]["kernel"], np.float64)[:, columns])
        biases.append(low + (high - low) * np.asarray(heads["attributes"]["bias"], np.float64)[columns])
    if description.categories:
        kernels.append(np.asarray(heads["categories"]["kernel"], np.float64))
        biases.append(np.asarray(heads["categories"]["bias"], np.float64))
    return np.concatenate(kernels, axis=1), np.concatenate(biases)


def _torch_run(files: Mapping[str, bytes], source: Source) -> Run:
    """Loads a folder by transformers; returns a function of single clips."""
    try:
        import torch
    except ImportError as error:
        raise ConfigError("--format=huggingface needs PyTorch, which is not installed (pip install torch)") from error
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        model = AutoModelForAudioClassification.from_pretrained(folder).eval()
        extractor = AutoFeatureExtractor.from_pretrained(folder)
    projected: list[Any] = []
    model.projector.register_forward_hook(lambda module, inputs, output: projected.append(output))
    description, rows = source.description, len(source.description.attributes)

    def run(waveform: np.ndarray, num_samples: np.ndarray) -> Outputs:
        inputs = extractor(waveform[0], sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.no_grad():
            logits = model(inputs.input_values).logits.numpy()
        attributes = logits[:, :rows]
        if source.trained.config.model.clip_attributes:
            attributes = np.clip(attributes, *description.scale)
        embedding = projected.pop().mean(dim=1).numpy()
        return {"attributes": attributes, "categories": softmax(logits[:, rows:]), "embedding": embedding}

    return run


def _family(trained: TrainedModel) -> Family | None:
    """Family of the speech encoder, if it is one of HuBERT's."""
    published = read_json_config(trained.workdir / ENCODERS / "acoustic")
    return FAMILIES.get(published.get("model_type", ""))


def _json(tree: Any) -> bytes:
    return (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode()
