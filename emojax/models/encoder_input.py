"""Encoder input: hidden states of a pre-trained encoder, of the waveform (acoustic) or the transcript (lexical)."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.encoders import AxesTable, Encoder, axes_by_path, resolve_layers, select_layers
from emojax.encoders.inputs import InputAdapter
from emojax.encoders.layers import RematSaves
from emojax.errors import ConfigError
from emojax.models.normalisation import CorpusNormalisation
from emojax.models.pooling import pool
from emojax.models.tcgru import TCGRUConfig
from emojax.parallel import AxesOf
from emojax.schema import Ge, Le, MaxLen, settings
from emojax.types import Batch, FrameStates

LAST_STATES = "last_states"
"""Variable collection of the encoders' last hidden states (`FrameStates`), for a loss on them."""


@settings
class EncoderInputConfig:
    """A pre-trained encoder, which of its hidden states are used, and the network on them."""

    checkpoint: Annotated[
        str,
        "Folder, Hugging Face name, or `package:NAME/FOLDER` (inside an installed Python package) of the checkpoint: a "
        'speech encoder ("acoustic") or a text encoder ("lexical") of docs/encoders.md.',
    ] = ""
    revision: Annotated[str, "Branch, tag or commit on the hub; empty: the main branch."] = ""
    store: Annotated[
        str,
        "Folder of hidden states written by `--mode=extract` with the same checkpoint, layers and pooling; "
        "workdir:FOLDER is relative to the workdir; empty: computed in every step.",
    ] = ""
    make_store: Annotated[
        bool, "Whether training first writes what the store lacks, as `--mode=extract` does; it continues a part of it."
    ] = False
    keep_layers: Annotated[
        int,
        Ge(0),
        Le(256),
        "Transformer layers that are loaded and saved, counted from the input; 0: all. The encoder is then that of its "
        "first layers, with the norm after the last one where it has one.",
    ] = 0
    layers: Annotated[
        tuple[Annotated[int, Ge(-1000), Le(1000)], ...],
        MaxLen(256),
        "Layers by number: 0 is the input of the first layer, -1 the encoder's last hidden states; (): all of them.",
    ] = (-1,)
    combine: Annotated[
        Literal["concatenate", "mean", "weighted"],
        'Of several layers: "concatenate" them, their "mean", or a "weighted" mean with learned weights.',
    ] = "weighted"
    pooling: Annotated[
        Literal["none", "mean", "statistics"],
        'Of every layer over the utterance, before layers are combined: "mean", or "statistics" (mean and standard '
        'deviation, concatenated), one row that the network gets in place of frames; "none": frames.',
    ] = "none"
    normalisation: Annotated[
        Literal["none", "corpus"],
        '"corpus": hidden states to mean 0 and variance 1, per layer and feature, by statistics of the training corpus '
        '(of the published weights, where the encoder is trained); "none": as the encoder computes them.',
    ] = "corpus"
    train: Annotated[Literal["nothing", "top", "all"], "Which layers of the encoder are trained."] = "nothing"
    top_layers: Annotated[int, Ge(1), Le(1000), 'Layers trained with "top".'] = 4
    train_convolutions: Annotated[
        bool, 'Whether "all" includes the convolutions before the transformer of a speech encoder.'
    ] = False
    remat: Annotated[
        bool,
        "Whether layers are computed again in the backward pass in place of keeping activations: less memory, more "
        "time.",
    ] = False
    remat_saves: Annotated[
        RematSaves,
        "With `remat`: what is kept of each layer beside its input. Per frame or token, the "
        'output of "attention" takes 2 D bytes in bfloat16, all "products" 16 D bytes.',
    ] = "attention"
    scan_layers: Annotated[
        bool,
        'Whether one compiled layer runs over stacked parameters: shorter compilation, less memory; not with "top".',
    ] = False
    network: TCGRUConfig = TCGRUConfig()

    def __post_init__(self):
        """Checks rules between fields."""
        if self.train == "top" and self.scan_layers:
            raise ConfigError("scan_layers must be False where only the top layers are trained, got True")
        if self.keep_layers and self.store:
            raise ConfigError(f"store must be empty with keep_layers, got {self.store!r}")
        if self.train != "nothing" and self.store:
            raise ConfigError(f"store must be empty with train={self.train!r}, got {self.store!r}")
        if self.make_store and not self.store:
            raise ConfigError("store must be a folder with make_store, got ''")
        network = self.network
        if self.pooling != "none" and (network.gru_layers or network.conv_channels or network.block_dilations):
            raise ConfigError(f"network must have neither GRU layers nor convolutions with pooling={self.pooling!r}")
        if self.pooling != "none" and network.pooling != "mean":
            raise ConfigError(f"network.pooling must be 'mean' of the one row, got {network.pooling!r}")

    def row_size(self, num_features: int) -> int:
        """Values of a layer's row for an encoder of `num_features`."""
        return num_features * (2 if self.pooling == "statistics" else 1)


@settings
class AcousticInputConfig(EncoderInputConfig):
    """A speech encoder, the length of its clips, which of its hidden states are used, and the network on them."""

    padded: Annotated[
        bool,
        "Whisper: whether every clip is padded by silence to 30 s, as in pre-training and as published; all 1500 "
        "frames are hidden states, those of silence included. False: each clip at its own length, which costs less.",
    ] = False


@settings
class LexicalInputConfig(EncoderInputConfig):
    """A text encoder, its transcripts, which of its hidden states are used, and the network on them."""

    transcripts: Annotated[
        str,
        "Folders of transcripts that `--mode=transcribe` wrote, comma-separated, one per corpus, in place of the "
        "corpus's own in training, validation and evaluation; a `store` must be computed from the same. Empty: the "
        "corpus's own.",
    ] = ""


class EncoderInput(nn.Module):
    """Hidden states of the chosen layers as feature frames, computed by the encoder or read from the batch.

    With `corpus` normalisation the variable collection `statistics` holds `mean` and `std` (L, D) of the L layers that
    are combined (L = 1 for their mean): see `CorpusNormalisation`.

    Attributes:
      config: see `EncoderInputConfig`.
      encoder: module and pre-processing, without parameters.
      name_in_batch: key of `Batch.stored` for hidden states from a feature store.
    """

    config: EncoderInputConfig
    encoder: "EncoderPart"
    name_in_batch: str

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
        """Computes frames and their mask; a row without audio or transcript has no valid frame."""
        layers = resolve_layers(self.config.layers, self.encoder.num_layers, f"model.{self.name_in_batch}.layers")
        if self.name_in_batch in batch.stored:
            stored = batch.stored[self.name_in_batch]
            states, mask = stored.values.astype(jnp.float32), stored.mask
        else:
            states, mask = self._encode(batch, layers, train)
            if self.config.pooling != "none":
                states, mask = pool_layers(self.config.pooling, states, mask)
        if self.config.combine == "mean":
            states = states.mean(axis=2, keepdims=True)
        if self.config.normalisation == "corpus":
            normalisation = CorpusNormalisation()
            nn.share_scope(self, normalisation)
            states = normalisation(states, mask)
        return self._combine(states), mask

    def _encode(
        self, batch: Batch, layers: tuple[int, ...], train: bool
    ) -> tuple[Float[Array, "B T L D"], Bool[Array, "B T"]]:
        tuned = self.config.train != "nothing"
        inputs, lengths = self.encoder.inputs.of_batch(batch)
        inputs = self.encoder.inputs(inputs, lengths)
        earlier = any(layer != self.encoder.num_layers for layer in layers)
        module: Any = self.encoder.module.clone(parent=self, name="encoder")
        output = module(inputs, lengths, train=train and tuned, hidden_states=earlier)
        if not self.is_initializing():  # kept only where the collection is mutable
            last = output.last_hidden_state[:, :, None]
            self.sow(LAST_STATES, "encoder_output", FrameStates(last, output.mask.astype(jnp.float32)))
        states = select_layers(output, layers, self.encoder.num_layers)
        return states if tuned else jax.lax.stop_gradient(states), output.mask

    def _combine(self, states: Float[Array, "B T L D"]) -> Float[Array, "B T D2"]:
        if self.config.combine != "weighted":
            return states.reshape(*states.shape[:2], -1)
        scores = self.param("layer_scores", nn.initializers.zeros, (states.shape[2],))
        return jnp.einsum("l,btld->btd", jax.nn.softmax(scores), states)


def pool_layers(
    kind: str, states: Float[Array, "B T L D"], mask: Bool[Array, "B T"]
) -> tuple[Float[Array, "B 1 L P"], Bool[Array, "B 1"]]:
    """Pools every layer over time (see `emojax.models.pooling`): one row, valid where there is a valid frame."""
    pooled = [pool(kind, states[:, :, layer].astype(jnp.float32), mask) for layer in range(states.shape[2])]
    return jnp.stack(pooled, axis=1)[:, None], mask.any(axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True, eq=False)
class EncoderPart:
    """An encoder without its parameters.

    Attributes:
      module: unbound Linen module.
      inputs: adapter for waveforms or tokens.
      num_layers: transformer layers.
      num_features: D, width of the hidden states.
      axes: logical axis names of its parameters.
    """

    module: nn.Module
    inputs: InputAdapter
    num_layers: int
    num_features: int
    axes: AxesTable

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz that give one frame; 0 for a text encoder."""
        return self.inputs.min_samples

    @classmethod
    def of(cls, encoder: Encoder) -> "EncoderPart":
        """The part of a loaded encoder that holds no parameters."""
        return cls(encoder.module, encoder.inputs, encoder.num_layers, encoder.num_features, encoder.family.axes)


def last_states(collection: Mapping[str, Any], modality: str) -> FrameStates:
    """Last hidden states of a modality's encoder, from a collection `last_states`."""
    (states,) = collection[modality]["encoder_output"]
    return states


def parameter_axes(encoders: Mapping[str, EncoderPart]) -> AxesOf:
    """Logical axis names of a model's parameters, in any tree that has them at their paths."""
    return axes_by_path({f"{modality}/encoder": part.axes for modality, part in encoders.items()})
