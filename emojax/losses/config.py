"""Settings of the training loss."""

import math
from typing import Annotated, Literal

from emojax.errors import ConfigError
from emojax.losses.embedding_match import EmbeddingLoss
from emojax.schema import Ge, Gt, Le, Lt, MaxLen, settings
from emojax.types import ATTRIBUTES

AttributeLoss = Literal["ccc", "mse", "mix"]

Condition = Literal["none", "residual", "hard", "relative", "soft"]


@settings
class ObjectiveConfig:
    """Losses on labels and how they are combined."""

    attribute_weights: Annotated[
        tuple[Annotated[float, Ge(0), Le(1)], Annotated[float, Ge(0), Le(1)], Annotated[float, Ge(0), Le(1)]],
        "Weights of the losses of activation, valence, dominance; they sum to 1 (the papers: 1/3 each), or are all 0 "
        "to train on categories alone. Attributes without ratings are skipped and the others scaled up; one with "
        "ratings of one value must have weight 0.",
    ] = (1 / 3, 1 / 3, 1 / 3)
    attribute_loss: Annotated[
        AttributeLoss,
        'Loss towards the labels of attributes: "ccc": 1 - CCC; "mse": mean squared error, of labels scaled to '
        '[0, 1]; "mix": (1 - mse_share) of the first plus mse_share of the second.',
    ] = "ccc"
    mse_share: Annotated[float, Ge(0), Le(1), 'Share of the squared error in the "mix".'] = 0.5
    emotion_weight: Annotated[
        float,
        Ge(0),
        Le(10**6),
        "Weight of the categories' cross-entropy (the papers: 0.2); 0: categories are not used.",
    ] = 0.0
    class_balance: Annotated[Literal["none", "inverse_frequency"], "Weight of each category in the cross-entropy."] = (
        "none"
    )
    label_smoothing: Annotated[float, Ge(0), Lt(1), "Share of the target spread evenly over all categories."] = 0.0
    emotion_target: Annotated[
        Literal["consensus", "votes"],
        "Target of the logits: the consensus category or the distribution of votes, if there are any.",
    ] = "consensus"
    weighting: Annotated[
        Literal["fixed", "learned"],
        '"fixed": the weights above; "learned": the weight of each task is also divided by its learned uncertainty.',
    ] = "fixed"
    rating_weight: Annotated[
        float,
        Ge(0),
        Le(10**6),
        "Weight of the loss between predicted distributions of ratings (`model.rating_bins`) and the raters' choices; "
        "0: none.",
    ] = 0.0
    rating_loss: Annotated[
        Literal["cross_entropy", "squared_emd"],
        'Loss of the distributions: "cross_entropy", or "squared_emd", the squared earth mover\'s distance of ordered '
        "values, whose gradient is that of the CRPS.",
    ] = "cross_entropy"
    rating_target: Annotated[
        Literal["histogram", "normal"],
        'Target of the distributions: "histogram": number of raters per value, utterances without one are skipped; '
        '"normal": where there is none, a normal distribution around the label with the raters\' standard deviation, '
        "discretised, which is an assumption.",
    ] = "histogram"
    confidence: Annotated[
        Literal["none", "num_ratings", "inverse_variance", "standard_error"],
        "Weight of an utterance in the losses of an attribute, by its number n of raters and their standard deviation "
        's: "none": equal weights; "num_ratings": n; "inverse_variance": 1 / (s² + s0²); "standard_error": '
        "1 / (s²/n + s0²). Formulas: emojax/losses/confidence.py.",
    ] = "none"
    confidence_floor: Annotated[
        float, Gt(0), Le(1), "s0, as a share of the scale: bounds the weights of utterances whose raters all agree."
    ] = 0.1
    confidence_bound: Annotated[
        float, Ge(1), Le(1000), "Bound b of the weights relative to their mean over a batch: from 1/b to b."
    ] = 4.0

    def __post_init__(self):
        """Checks rules between fields."""
        weights = self.attribute_weights
        if not (math.isclose(sum(weights), 1.0, abs_tol=1e-6) or sum(weights) == 0):
            raise ConfigError(
                f"objective.attribute_weights ({', '.join(ATTRIBUTES)}) must sum to 1, or be all 0, got {weights}"
            )

    @property
    def uses_ratings(self) -> bool:
        """Whether the loss needs histograms of ratings, or their standard deviations."""
        return self.rating_weight > 0 or self.confidence != "none"


@settings
class DistillationConfig:
    """Loss terms towards a teacher."""

    label_weight: Annotated[float, Ge(0), Le(10**6), "Weight of the labels' loss; 0: labels are not used."] = 1.0
    attribute_weight: Annotated[float, Ge(0), Le(10**6), "Weight of the loss towards the teacher's attributes."] = 0.0
    attribute_loss: Annotated[
        AttributeLoss,
        'Loss towards the teacher\'s attributes: "ccc": 1 - CCC; "mse": mean squared error over the variance of the '
        'teacher\'s outputs; "mix": (1 - mse_share) of the first plus mse_share of the second.',
    ] = "ccc"
    mse_share: Annotated[float, Ge(0), Le(1), 'Share of the squared error in the "mix".'] = 0.5
    emotion_weight: Annotated[
        float, Ge(0), Le(10**6), "Weight of the divergence from the teacher's category probabilities."
    ] = 0.0
    temperature: Annotated[float, Ge(0.01), Le(100), "Temperature of both category distributions."] = 2.0
    embedding_weight: Annotated[float, Ge(0), Le(10**6), "Weight of the distance to the teacher's embedding."] = 0.0
    embedding_loss: Annotated[
        EmbeddingLoss,
        '"mse" or "cosine" after a learned linear projection, "cka" or "relational" without one. All but "cosine" '
        "compare sets: they need two utterances in a batch.",
    ] = "mse"
    hidden_weight: Annotated[
        float,
        Ge(0),
        Le(10**6),
        "Weight of the loss of linear heads that predict hidden states of the teacher's speech encoder from the last "
        "ones of the student's: absolute difference and cosine similarity (DistilHuBERT, Chang et al. 2022).",
    ] = 0.0
    hidden_layers: Annotated[
        tuple[Annotated[int, Ge(0), Le(256)], ...],
        MaxLen(32),
        "Layers of the teacher's encoder that are predicted: 0 is the input of the first layer, the number of layers "
        "the last hidden states. Needed with hidden_weight.",
    ] = ()
    condition: Annotated[
        Condition,
        'Which of the teacher\'s attributes are used: "none": all; "residual": those close to the label; "hard": those '
        'close to the label, and the label in place of the others; "relative": those closer to the label than the '
        'student; "soft": weighted by closeness. Formulas: emojax/losses/distillation.py.',
    ] = "none"
    quantile: Annotated[float, Gt(0), Lt(1), "Share of the training labels that the teacher counts as close to."] = 0.5
    debias: Annotated[bool, "Whether a linear bias of the teacher is removed before its residuals are measured."] = True

    def __post_init__(self):
        """Checks rules between fields."""
        if bool(self.hidden_weight) != bool(self.hidden_layers):
            raise ConfigError(
                "distillation.hidden_layers must name layers with hidden_weight > 0 and be () without, got "
                f"{self.hidden_layers} with {self.hidden_weight}"
            )

    @property
    def on(self) -> bool:
        """Whether the loss has a term towards a teacher."""
        return self.uses_outputs or self.hidden_weight > 0

    @property
    def uses_outputs(self) -> bool:
        """Whether the loss has a term towards a teacher's attributes, categories or embedding."""
        return max(self.attribute_weight, self.emotion_weight, self.embedding_weight) > 0

    @property
    def measures_teacher(self) -> bool:
        """Whether statistics of the teacher on training data are needed: residuals, or the variance of its outputs."""
        squared_attributes = self.attribute_weight > 0 and self.attribute_loss != "ccc"
        squared_embedding = self.embedding_weight > 0 and self.embedding_loss == "mse"
        return self.condition in ("residual", "hard", "soft") or squared_attributes or squared_embedding
