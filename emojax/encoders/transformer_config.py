"""Sizes and options of the transformer layers that all encoders share."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Everything that determines the computation of the transformer layers of an encoder.

    Attributes:
      hidden_size: D.
      num_layers: transformer layers.
      num_heads: attention heads; divides `hidden_size`.
      intermediate_size: width of the feed-forward part.
      activation: key of `ACTIVATIONS`, in the feed-forward part.
      norm_first: layer norm before each sublayer and once at the end (`do_stable_layer_norm`), instead of after each.
      layer_norm_epsilon: added to the variance, outside the feature encoder.
      key_bias: whether the projection to keys has a bias.
      hidden_dropout: rate before the first layer and after each sublayer.
      attention_output_dropout: whether attention counts among these sublayers.
      activation_dropout: rate inside the feed-forward part.
      attention_dropout: rate on attention weights.
      layer_drop: probability of skipping a layer, per step.
      drop_first_layer: whether the first layer can be skipped, too.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str
    norm_first: bool
    layer_norm_epsilon: float
    key_bias: bool
    hidden_dropout: float
    attention_output_dropout: bool
    activation_dropout: float
    attention_dropout: float
    layer_drop: float
    drop_first_layer: bool
