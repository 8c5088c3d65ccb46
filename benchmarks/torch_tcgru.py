"""The log-mel TC-GRU written plainly in PyTorch, with parameters of emojax: the peer of students and training steps."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from emojax.audio.mel_scale import mel_filterbank
from emojax.models import LogMelInputConfig, TCGRUConfig

VARIANCE_FLOOR = 1e-10
"""Of the standard deviation in pooling, as in emojax."""


class TorchTCGRU(nn.Module):
    """From waveforms (B, S), int16 or float, all of the same length, to attributes (B, 3).

    Args:
      settings: log-mel input and network, without augmentation, slopes and dropout, and with a linear embedding.
      variables: `params` and `statistics` of emojax's model, which are copied.

    Raises:
      ValueError: a setting has another value than this module computes.
    """

    def __init__(self, settings: LogMelInputConfig, variables: Mapping[str, Any]):
        super().__init__()
        check(settings)
        params, statistics = (
            jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), variables[name])
            for name in ("params", "statistics")
        )
        self.settings, bank = settings, settings.filterbank
        self.register_buffer("mel", torch.from_numpy(mel_filterbank(bank.bands).astype(np.float32)))
        self.register_buffer("window", torch.hann_window(bank.window_samples))
        self.register_buffer("mean", statistics["log_mel"]["mean"])
        self.register_buffer("std", statistics["log_mel"]["std"])
        network, sizes = params["log_mel_network"], settings.network
        features = bank.num_bands * settings.stack
        if sizes.conv_channels:
            self.convolution = nn.Conv1d(features, sizes.conv_channels, sizes.conv_kernel)
            own = network["convolution"]["Conv_0"]
            self.convolution.weight.data = own["kernel"].permute(2, 1, 0).contiguous()
            self.convolution.bias.data = own["bias"]
            features += sizes.conv_channels
        if sizes.block_dilations:
            self.to_blocks = dense(network["to_blocks"])
            self.blocks = nn.ModuleList(
                CausalBlock(network[f"blocks_{number}"], dilation)
                for number, dilation in enumerate(sizes.block_dilations)
            )
            features = sizes.block_channels
        if sizes.gru_layers:
            self.gru = nn.GRU(features, sizes.gru_size, sizes.gru_layers, batch_first=True)
            for number in range(sizes.gru_layers):
                for theirs, ours in GRU_NAMES.items():
                    values = network[f"gru_{number}"][ours]
                    getattr(self.gru, f"{theirs}_l{number}").data = (
                        values.T.contiguous() if values.ndim == 2 else values
                    )
        self.embedding = dense(network["embedding"])
        self.heads = dense(params["heads"]["attributes"])

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Predicts attributes, not clipped."""
        frames, sizes = self.frames(waveform), self.settings.network
        if sizes.conv_channels:
            before = sizes.conv_kernel - 1 if sizes.causal else sizes.conv_kernel // 2
            padded = nn.functional.pad(frames.transpose(1, 2), (before, sizes.conv_kernel - 1 - before))
            frames = torch.cat([torch.relu(self.convolution(padded)).transpose(1, 2), frames], dim=-1)
        if sizes.block_dilations:
            frames = self.to_blocks(frames)
            for block in self.blocks:
                frames = block(frames)
        if sizes.gru_layers:
            frames, _ = self.gru(frames)
        return self.heads(self.embedding(self.pooled(frames)))

    def frames(self, waveform: torch.Tensor) -> torch.Tensor:
        """Normalised log-mel frames, stacked."""
        bank, stack = self.settings.filterbank, self.settings.stack
        if waveform.dtype == torch.int16:
            waveform = waveform.float() / 2**15
        # A frame covers the window only; torch centres the window in the transform, which does not change its power.
        padding = bank.fft_size - bank.window_samples
        waveform = nn.functional.pad(waveform, (padding // 2, padding - padding // 2))
        sizes = bank.fft_size, bank.hop_samples, bank.window_samples
        spectrum = torch.stft(waveform, *sizes, self.window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        energies = torch.log(torch.clamp(power.transpose(1, 2) @ self.mel, min=bank.floor))
        frames = (energies - self.mean) / self.std
        stacks = frames.shape[1] // stack
        return frames[:, : stacks * stack].reshape(frames.shape[0], stacks, -1)

    def pooled(self, frames: torch.Tensor) -> torch.Tensor:
        """One vector per utterance."""
        if self.settings.network.pooling == "last":
            return frames[:, -1]
        mean = frames.mean(1)
        deviation = torch.sqrt((frames - mean[:, None]).square().mean(1) + VARIANCE_FLOOR)
        return torch.cat([mean, deviation], dim=-1)


GRU_NAMES = {"weight_ih": "kernel_ih", "weight_hh": "kernel_hh", "bias_ih": "bias_ih", "bias_hh": "bias_hh"}
"""Parameters of a layer; both have the gates in the order reset, update, new."""


class CausalBlock(nn.Module):
    """Layer norm, depthwise dilated convolution, GELU, dense layer; added to the input."""

    def __init__(self, own: Mapping[str, Any], dilation: int):
        super().__init__()
        kernel, channels = own["depthwise"].shape
        self.reach = (kernel - 1) * dilation
        self.norm = nn.LayerNorm(channels, eps=1e-5)
        self.norm.weight.data, self.norm.bias.data = own["LayerNorm_0"]["scale"], own["LayerNorm_0"]["bias"]
        self.depthwise = nn.Conv1d(channels, channels, kernel, dilation=dilation, groups=channels)
        self.depthwise.weight.data = own["depthwise"].T[:, None].contiguous()
        self.depthwise.bias.data = own["bias"]
        self.dense = dense(own["dense"])

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Computes as many frames."""
        padded = nn.functional.pad(self.norm(frames).transpose(1, 2), (self.reach, 0))
        hidden = nn.functional.gelu(self.depthwise(padded).transpose(1, 2), approximate="tanh")
        return frames + self.dense(hidden)


def dense(own: Mapping[str, Any]) -> nn.Linear:
    """A dense layer with these parameters."""
    layer = nn.Linear(*own["kernel"].shape)
    layer.weight.data, layer.bias.data = own["kernel"].T.contiguous(), own["bias"]
    return layer


def ccc_loss(predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - CCC over the attributes, biased variances."""
    means, targets = predictions.mean(0), labels.mean(0)
    covariance = ((predictions - means) * (labels - targets)).mean(0)
    spread = predictions.var(0, unbiased=False) + labels.var(0, unbiased=False) + (means - targets) ** 2
    return (1 - 2 * covariance / (spread + 1e-10)).mean()


def check(settings: LogMelInputConfig) -> None:
    """Checks that this module computes the same."""
    network: TCGRUConfig = settings.network
    rules = {
        "normalisation": settings.normalisation == "corpus",
        "deltas.order": settings.deltas.order == 0,
        "augmentation": not (settings.vtlp.max_warp or settings.time_stretch.max_stretch)
        and not (settings.spec_augment.num_time_masks or settings.spec_augment.num_frequency_masks),
        "network.pooling": network.pooling in ("last", "statistics"),
        "network.embedding_size": network.embedding_size > 0,
        "network.embedding_norm": not network.embedding_norm,
        "network.embedding_activation": network.embedding_activation == "none",
        "network.dropout": network.dropout == 0,
    }
    missing = [name for name, holds in rules.items() if not holds]
    if missing:
        raise ValueError(f"config.model.log_mel: the PyTorch model has no other value of {', '.join(missing)}")
