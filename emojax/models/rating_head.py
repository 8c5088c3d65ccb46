"""Distribution of ratings: a softmax over the values of the rating scale, whose expectation is the attribute."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.types import EmotionOutput

_NEWTON_STEPS = 20


def rating_values(bins: int) -> Float[Array, "K"]:
    """The K values of a rating scale mapped to [0, 1], equally spaced, float32."""
    return jnp.linspace(0.0, 1.0, bins, dtype=jnp.float32)


def expected_ratings(logits: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """Expectation Σ_k p_k v_k of the distributions softmax(logits) over `rating_values`, in [0, 1], float32."""
    return jax.nn.softmax(logits.astype(jnp.float32)) @ rating_values(logits.shape[-1])


def logit_scale(bins: int) -> float:
    """Factor of linear outputs: 1 / variance of K equally probable values, 12 (K − 1) / (K + 1).

    A change of the logits by θ v_k changes the expectation by θ times the variance of the distribution: with this
    factor, a step of the optimizer moves the attributes at first about as much as those of a linear head.
    """
    return 12.0 * (bins - 1) / (bins + 1)


def rating_output(
    logits: Float[Array, "B D"], bins: int, emotion_logits: Float[Array, "B C"], embedding: Float[Array, "B E"]
) -> EmotionOutput:
    """Outputs whose attributes are the expectations of predicted distributions.

    Args:
      logits: those of K values for each of three attributes, one attribute after the other (D = 3 K), divided by
        `logit_scale`.
      bins: K.
      emotion_logits: logits of categories.
      embedding: utterance embedding.
    """
    by_attribute = logit_scale(bins) * logits.astype(jnp.float32).reshape(logits.shape[0], -1, bins)
    return EmotionOutput(
        attributes=expected_ratings(by_attribute),
        emotion_logits=emotion_logits,
        embedding=embedding,
        rating_logits=by_attribute,
    )


def maximum_entropy_logits(means: Float[Array, "A"], bins: int) -> Float[Array, "A K"]:
    """Logits θ v_k of the distributions of maximum entropy over `rating_values` with given means; θ by Newton's method.

    Args:
      means: in [0, 1]; those within 0.05 of an end are moved there, so that θ is bounded.
      bins: K.
    """
    values, wanted = rating_values(bins), jnp.clip(means.astype(jnp.float32), 0.05, 0.95)

    def improve(_: Any, theta: Array) -> Array:
        probabilities = jax.nn.softmax(theta[:, None] * values)
        mean = probabilities @ values
        variance = probabilities @ values**2 - mean**2
        # Steps of at most 4: the variance of a distribution that is far off is close to 0.
        return theta + jnp.clip((wanted - mean) / jnp.maximum(variance, 1e-4), -4.0, 4.0)

    theta = jax.lax.fori_loop(0, _NEWTON_STEPS, improve, jnp.zeros_like(wanted))
    return theta[:, None] * values
