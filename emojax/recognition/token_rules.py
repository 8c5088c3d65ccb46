"""Rules on the logits of the next token: suppressed tokens, and the order of time stamps (Radford et al. 2023)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class TokenRules:
    """Which tokens may follow which.

    Attributes:
      end: id of the end of the text; text has smaller ids.
      no_timestamps: id before the first time stamp; all ids above are time stamps.
      suppressed: ids that are never predicted.
      suppressed_first: ids that are not predicted first.
      timestamps: whether time stamps are predicted; the rules of their order apply only then.
      latest_first: largest first time stamp in steps of 20 ms; 1 s as published.
    """

    end: int
    no_timestamps: int
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    timestamps: bool = False
    latest_first: int = 50


class History(NamedTuple):
    """What the rules need of the tokens so far.

    Attributes:
      is_timestamp: whether the last token was a time stamp; True before the first token.
      was_timestamp: whether the token before it was one.
      latest: last time stamp, `no_timestamps` before the first one.
    """

    is_timestamp: Bool[Array, "N"]
    was_timestamp: Bool[Array, "N"]
    latest: Int[Array, "N"]


def start_history(rules: TokenRules, rows: int) -> History:
    """Makes the history before the first token."""
    return History(jnp.ones(rows, bool), jnp.ones(rows, bool), jnp.full(rows, rules.no_timestamps, jnp.int32))


def extend_history(rules: TokenRules, history: History, tokens: Int[Array, "N"]) -> History:
    """Adds one token per row."""
    is_timestamp = tokens > rules.no_timestamps
    return History(is_timestamp, history.is_timestamp, jnp.where(is_timestamp, tokens, history.latest))


def apply_rules(
    rules: TokenRules, logits: Float[Array, "N V"], history: History, first: bool = False
) -> Float[Array, "N V"]:
    """Sets the logits of tokens that may not follow to minus infinity.

    Args:
      rules: rules of the checkpoint.
      logits: unnormalised log-probabilities of the next token.
      history: tokens so far.
      first: whether this is the first token after the prompt.
    """
    vocab_size = logits.shape[-1]
    banned = np.zeros(vocab_size, bool)
    banned[list(rules.suppressed)] = True
    if first:
        banned[list(rules.suppressed_first)] = True
    ids = np.arange(vocab_size)
    if not rules.timestamps:
        return jnp.where(banned, -jnp.inf, logits)
    banned[rules.no_timestamps] = True
    stamps = ids > rules.no_timestamps
    if first:
        return jnp.where(banned | ~stamps | (ids > rules.no_timestamps + 1 + rules.latest_first), -jnp.inf, logits)
    ends_segment = history.is_timestamp & ~history.was_timestamp
    starts_segment = history.is_timestamp & history.was_timestamp
    # Only the start of the next segment may have the time of the end of this one.
    earliest = history.latest + ~ends_segment
    masked = banned | (stamps & ((ids < earliest[:, None]) | starts_segment[:, None]))
    masked |= (ids < rules.end) & ends_segment[:, None]
    logits = jnp.where(masked, -jnp.inf, logits)
    # A time stamp is due where all of them together are more probable than any text.
    of_stamps = jax.nn.logsumexp(logits[:, rules.no_timestamps + 1 :], axis=-1, keepdims=True)
    of_text = logits[:, : rules.no_timestamps + 1].max(axis=-1, keepdims=True)
    return jnp.where((of_stamps > of_text) & ~stamps, -jnp.inf, logits)
