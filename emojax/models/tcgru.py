"""The network of one modality, from frames to an embedding: convolutions, GRU layers, pooling, dense layer."""

from typing import Annotated, Any, Literal

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.errors import ConfigError
from emojax.models.layers import GRU, Dense
from emojax.models.pooling import POOLINGS, PoolingName
from emojax.schema import Ge, Le, Lt, MaxLen, settings


class CausalBlock(nn.Module):
    """Layer norm, depthwise dilated convolution over this and earlier frames, GELU, dense layer; added to the input.

    A separable convolution costs a quarter of two dense layers with twice the width between them, so that more blocks,
    with a larger receptive field, take the same time.

    Attributes:
      kernel_size: frames that the convolution spans.
      dilation: distance between them.
      dtype: dtype of the factors of products.
    """

    kernel_size: int
    dilation: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T C"], context: Float[Array, "B P C"]
    ) -> tuple[Float[Array, "B T C"], Float[Array, "B P C"]]:
        """Continues a stream.

        Args:
          frames: new frames.
          context: the P = (kernel_size - 1) * dilation normalised frames before them; zeros at the start.

        Returns:
          As many frames, and the context of the next ones.
        """
        channels, length = frames.shape[-1], frames.shape[1]
        normalised = nn.LayerNorm(epsilon=1e-5)(frames)
        padded = jnp.concatenate([context.astype(normalised.dtype), normalised], axis=1)
        kernel = self.param("depthwise", nn.initializers.lecun_normal(in_axis=0), (self.kernel_size, channels))
        # A few shifted products: on CPU several times faster than a grouped convolution.
        convolved = sum(
            padded[:, tap * self.dilation : tap * self.dilation + length] * kernel[tap]
            for tap in range(self.kernel_size)
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        update = Dense(channels, self.dtype, name="dense")(nn.gelu(convolved + bias))
        return frames + update.astype(frames.dtype), padded[:, padded.shape[1] - context.shape[1] :]


@settings
class TCGRUConfig:
    """From frames to an embedding: a TC-GRU or, without GRU layers and convolution, pooling alone."""

    gru_layers: Annotated[int, Ge(0), Le(64), "GRU layers (paper: 2); 0: none."] = 2
    gru_size: Annotated[int, Ge(1), Le(16_384), "Units of each GRU layer (replication: 128)."] = 128
    conv_channels: Annotated[
        int,
        Ge(0),
        Le(16_384),
        "Channels of the time convolution whose output is concatenated with the features (Network B); 0: without it "
        "(Network A).",
    ] = 128
    conv_kernel: Annotated[int, Ge(1), Le(1025), "Frames that the convolutions span; odd unless causal."] = 3
    causal: Annotated[bool, "Whether convolutions use no later frame, as a stream needs it."] = False
    block_dilations: Annotated[
        tuple[Annotated[int, Ge(1), Le(65_536)], ...],
        MaxLen(64),
        "Residual causal convolutions before the GRU layers or in place of them, one per number, which is the distance "
        "of its conv_kernel frames.",
    ] = ()
    block_channels: Annotated[int, Ge(1), Le(16_384), "Channels of these convolutions."] = 128
    pooling: Annotated[
        PoolingName,
        'From frames to one vector: "last" valid frame (the paper), "mean", "max", "sum" (which grows with the '
        'length), "first" frame or token, "statistics" (mean and standard deviation), "attentive" (learned weights) or '
        '"attentive_statistics".',
    ] = "last"
    embedding_size: Annotated[
        int,
        Ge(0),
        Le(16_384),
        "Units of the embedding layer, the input of the heads (replication: 128); 0: the pooled vector itself.",
    ] = 128
    embedding_norm: Annotated[bool, "Whether the embedding is layer-normalised before its activation."] = False
    embedding_activation: Annotated[Literal["none", "relu", "tanh"], "Activation of the embedding layer."] = "none"
    dropout: Annotated[
        float,
        Ge(0),
        Lt(1),
        "Share of units dropped before the second and later GRU layers and before the embedding layer.",
    ] = 0.0

    def __post_init__(self):
        """Checks rules between fields."""
        if not self.causal and self.conv_kernel % 2 == 0:
            raise ConfigError(f"network.conv_kernel must be odd unless causal, got {self.conv_kernel}")


class TCGRU(nn.Module):
    """Frames to an utterance embedding.

    Attributes:
      config: sizes.
      dtype: dtype of the factors of products; recurrent state, normalisation and outputs are float32.
    """

    config: TCGRUConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Builds the layers; there is none of size 0."""
        config = self.config
        if config.conv_channels:
            self.convolution = TimeConvolution(config.conv_channels, config.conv_kernel, config.causal, self.dtype)
        if config.block_dilations:
            self.to_blocks = Dense(config.block_channels, dtype=self.dtype)
        self.blocks = [
            CausalBlock(config.conv_kernel, dilation, dtype=self.dtype) for dilation in config.block_dilations
        ]
        self.gru = [GRU(config.gru_size, self.dtype) for _ in range(config.gru_layers)]
        self.pooling = POOLINGS[config.pooling](dtype=self.dtype, name="attention")
        self.dropout = nn.Dropout(config.dropout)
        if config.embedding_size:
            self.embedding = Dense(config.embedding_size, dtype=self.dtype)
        if config.embedding_norm:
            self.norm = nn.LayerNorm(epsilon=1e-5)

    def __call__(
        self, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], train: bool = False
    ) -> Float[Array, "B E"]:
        """Embeds utterances; padded frames have no influence.

        Args:
          features: feature frames.
          frame_mask: True on valid frames.
          train: whether to apply dropout, with the rng `dropout`.

        Returns:
          The embedding, float32.
        """
        return self.embed(self.frames(features, frame_mask, train), frame_mask, train)

    def frames(
        self, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], train: bool = False
    ) -> Float[Array, "B T H"]:
        """Applies the frame-level layers: convolutions and GRU layers."""
        # Padded frames must not reach valid ones through a convolution.
        features = jnp.where(frame_mask[..., None], features, 0)
        frames, _ = self._layers(features, frame_mask, self._start(features), train)
        return frames

    def start(self, features: Float[Array, "B T D"]) -> "StreamState":
        """State of a stream before its first frame; only shape and dtype of the features are used.

        Raises:
          ConfigError: the convolution is not causal.
        """
        if self.config.conv_channels and not self.config.causal:
            raise ConfigError("network.causal must be True in a stream, got False")
        size = features.shape[-1] + self.config.conv_channels
        size = self.config.block_channels if self.config.block_dilations else size
        size = self.config.gru_size if self.config.gru_layers else size
        return StreamState(self._start(features), self.pooling.start(features.shape[0], size))

    def advance(
        self, features: Float[Array, "B T D"], state: "StreamState"
    ) -> tuple[Float[Array, "B E"], "StreamState"]:
        """Continues a stream by some frames, all of them valid.

        Returns:
          The embedding of all frames so far, equal to `embed(frames(...))` of them, and the new state.
        """
        frame_mask = jnp.ones(features.shape[:2], bool)
        frames, layers = self._layers(features, frame_mask, state.layers, False)
        running = self.pooling.update(state.pool, frames)
        return self._embedding(self.pooling.finish(running), False), StreamState(layers, running)

    def _start(self, features: Array) -> dict[str, Any]:
        """Contexts and recurrent states before the first frame."""
        config, batch = self.config, features.shape[0]
        state: dict[str, Any] = {"gru": [jnp.zeros((batch, config.gru_size), jnp.float32)] * config.gru_layers}
        if config.conv_channels:
            state["convolution"] = jnp.zeros((batch, config.conv_kernel - 1, features.shape[-1]), features.dtype)
        state["blocks"] = [
            jnp.zeros((batch, (config.conv_kernel - 1) * dilation, config.block_channels), jnp.float32)
            for dilation in config.block_dilations
        ]
        return state

    def _layers(
        self, features: Array, frame_mask: Array, state: dict[str, Any], train: bool
    ) -> tuple[Array, dict[str, Any]]:
        after: dict[str, Any] = {"gru": [], "blocks": []}
        if self.config.conv_channels:
            convolved, after["convolution"] = self.convolution(features, state["convolution"])
            features = jnp.concatenate([convolved, features.astype(convolved.dtype)], axis=-1)
        if self.blocks:
            features = self.to_blocks(features).astype(jnp.float32)
        for block, context in zip(self.blocks, state["blocks"], strict=True):
            features, context = block(features, context)
            after["blocks"].append(context)
        for number, (layer, initial) in enumerate(zip(self.gru, state["gru"], strict=True)):
            if number:
                features = self.dropout(features, deterministic=not train)
            features, last = layer(features, frame_mask, initial)
            after["gru"].append(last)
        return features, after

    def embed(
        self, frames: Float[Array, "B T H"], frame_mask: Bool[Array, "B T"], train: bool = False
    ) -> Float[Array, "B E"]:
        """Pools frames and embeds the result."""
        return self._embedding(self.pooling(frames, frame_mask), train)

    def _embedding(self, pooled: Float[Array, "B P"], train: bool) -> Float[Array, "B E"]:
        config = self.config
        embedding = self.dropout(pooled, deterministic=not train)
        if config.embedding_size:
            embedding = self.embedding(embedding)
        embedding = embedding.astype(jnp.float32)
        if config.embedding_norm:
            embedding = self.norm(embedding)
        return _ACTIVATIONS[config.embedding_activation](embedding)


_ACTIVATIONS: dict[str, Any] = {"none": lambda x: x, "relu": nn.relu, "tanh": jnp.tanh}


@flax.struct.dataclass
class StreamState:
    """State of a network on a stream: contexts and recurrent states of its layers, and the state of pooling."""

    layers: Any
    pool: Any


class TimeConvolution(nn.Module):
    """Convolution over time with ReLU, output as long as the input (Mitra et al. 2022, Figure 1).

    Attributes:
      channels: output channels.
      kernel_size: frames.
      causal: pad on the left only.
      dtype: dtype of the factors of products.
    """

    channels: int
    kernel_size: int
    causal: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Float[Array, "B T D"], context: Float[Array, "B P D"]
    ) -> tuple[Float[Array, "B T C"], Float[Array, "B P D"]]:
        """Convolves; frames beyond either end are zero.

        Args:
          features: frames.
          context: the kernel_size - 1 frames before them, used by a causal convolution only.

        Returns:
          As many frames, and the context of the next ones.
        """
        side = self.kernel_size // 2
        padded = jnp.concatenate([context.astype(features.dtype), features], axis=1)
        padding: Any = "VALID" if self.causal else [(side, self.kernel_size - 1 - side)]
        convolution = nn.Conv(self.channels, (self.kernel_size,), padding=padding, dtype=self.dtype)
        convolved = nn.relu(convolution(padded if self.causal else features))
        return convolved, padded[:, padded.shape[1] - context.shape[1] :]
