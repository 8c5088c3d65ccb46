"""Tiny random checkpoints of speech encoders, made by transformers' PyTorch models, for the tests."""

import json
import pathlib

import numpy as np
import torch
import transformers

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16, 24, 24),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 4, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_length": 3,
}
SEVEN_CONVOLUTIONS = {
    "conv_dim": (16, 24, 24, 24, 24, 24, 24),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
}
"""What published checkpoints have; the other tests use fewer layers because they compile faster."""

FRAMES_OF_20_MS = {"conv_kernel": (20, 8, 8), "conv_stride": (10, 8, 4)}
"""The frame rate of published checkpoints with fewer layers."""

BASE = {"feat_extract_norm": "group"}
LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}

VARIANTS = {
    "hubert-base": ("Hubert", BASE),
    "hubert-seven-convolutions": ("Hubert", {**BASE, **SEVEN_CONVOLUTIONS}),
    "hubert-large": ("Hubert", LARGE),
    "hubert-no-projection-norm": ("Hubert", {**BASE, "feat_proj_layer_norm": False}),
    "hubert-batch-norm": ("Hubert", {**BASE, "conv_pos_batch_norm": True}),
    "hubert-group-norm-first": ("Hubert", {**BASE, "conv_bias": True, "do_stable_layer_norm": True}),
    "wav2vec2-base": ("Wav2Vec2", BASE),
    "wav2vec2-large": ("Wav2Vec2", LARGE),
    "wav2vec2-odd-kernel": ("Wav2Vec2", {**LARGE, "do_stable_layer_norm": False, "num_conv_pos_embeddings": 5}),
    "wavlm-base": ("WavLM", {**BASE, "num_buckets": 16, "max_bucket_distance": 20}),
    "wavlm-large": ("WavLM", {**LARGE, "num_buckets": 320, "max_bucket_distance": 800}),
}
"""Name -> kind and what differs from `SIZES`; base, large and each option on its own."""


def make_model(kind: str, head: str = "Model", seed: int = 0, **changes) -> torch.nn.Module:
    """A model in evaluation mode with no parameter or statistic at its default."""
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind}{head}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer += 0.5 * torch.rand_like(buffer)
    return model


def write_checkpoint(folder: pathlib.Path, model: torch.nn.Module, normalize: bool = False) -> pathlib.Path:
    """Saves a model the way transformers does, with the settings of its pre-processing."""
    model.save_pretrained(folder)
    settings = {"feature_size": 1, "sampling_rate": 16_000, "do_normalize": normalize, "padding_value": 0.0}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def waveforms(num_samples: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Noise of different levels, float32."""
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 0.1 * (i + 1), n).astype(np.float32) for i, n in enumerate(num_samples)]


def padded(clips: list[np.ndarray], filler: float = 0.0, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms (B, S) with `filler` after each clip, and their lengths."""
    lengths = np.array([len(clip) for clip in clips], np.int32)
    rows = np.full((len(clips), size or lengths.max()), filler, np.float32)
    for row, clip in zip(rows, clips, strict=True):
        row[: len(clip)] = clip
    return rows, lengths


def torch_states(model: torch.nn.Module, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(layers + 1, T, D) of one clip alone, and its last hidden state (T, D)."""
    with torch.no_grad():
        waveform = torch.tensor(clip[None], dtype=next(model.parameters()).dtype)
        output = model(waveform, output_hidden_states=True)
    return np.stack([states[0].numpy() for states in output.hidden_states]), output.last_hidden_state[0].numpy()
