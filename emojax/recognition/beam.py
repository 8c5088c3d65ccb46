"""Beam search over tokens, with the hypotheses and the stopping rule of transformers."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.recognition.decoding import Decoded, start_decoding
from emojax.recognition.token_rules import History, TokenRules, apply_rules, extend_history, start_history
from emojax.recognition.whisper_decoder import KeysValues, WhisperDecoder

_IMPOSSIBLE = -1e9
"""Score of a hypothesis that does not exist."""


class _Beams(NamedTuple):
    """Hypotheses of each window, best first; a score is the sum of the log-probabilities of the tokens."""

    tokens: Int[Array, "B K M"]
    scores: Float[Array, "B K"]


class _Loop(NamedTuple):
    """State of the loop.

    Attributes:
      step: tokens of each open hypothesis.
      open: hypotheses without end, with the sum of log-probabilities as their score.
      complete: hypotheses with their end; scores are divided by a power of the length.
      improvable: windows whose complete hypotheses can still change.
      stopped: whether no hypothesis can be continued.
      history: tokens of the open hypotheses.
      cache: their keys and values.
    """

    step: Int[Array, ""]
    open: _Beams
    complete: _Beams
    improvable: Bool[Array, "B"]
    stopped: Bool[Array, ""]
    history: History
    cache: tuple[KeysValues, ...]


@functools.partial(
    jax.jit, static_argnames=("decoder", "rules", "no_speech_token", "max_tokens", "beam_size", "length_penalty")
)
def search_tokens(
    decoder: WhisperDecoder,
    params: Mapping[str, Any],
    states: Float[Array, "B T D"],
    mask: Bool[Array, "B T"],
    prompt: Int[Array, "B P"],
    active: Bool[Array, "B"],
    *,
    rules: TokenRules,
    no_speech_token: int | None,
    max_tokens: int,
    beam_size: int,
    length_penalty: float,
) -> Decoded:
    """Searches the text with the largest sum of log-probabilities over length ** `length_penalty`.

    In each step the 2 K best continuations are considered. Of these, the ones with an end among the first K compete
    with the complete hypotheses, and the best K without end are continued. The search of a window stops when its best
    open hypothesis scores less than its worst complete one.

    Args:
      decoder: module.
      params: its parameters.
      states: hidden states of the encoder.
      mask: True on valid frames.
      prompt: tokens before the text.
      active: rows that are decoded; the others are filler.
      rules: which tokens may follow.
      no_speech_token: id whose probability is that of no speech.
      max_tokens: M, longest text; prompt and text fit the decoder's positions.
      beam_size: K, hypotheses.
      length_penalty: exponent of the length.
    """
    run: Any = functools.partial(decoder.apply, {"params": params})
    (rows, offset), size = prompt.shape, beam_size

    def improvable(loop: _Loop) -> Bool[Array, ""]:
        return loop.improvable.any() & ~loop.stopped

    def advance(loop: _Loop) -> _Loop:
        last = jax.lax.dynamic_index_in_dim(loop.open.tokens, loop.step - 1, axis=2, keepdims=False)
        output = run(last.reshape(-1, 1), inputs, loop.cache, offset + loop.step - 1, method="decode")
        return extend(loop._replace(cache=output.cache), run(output.states[:, 0], method="logits"), False)

    def extend(loop: _Loop, logits: Float[Array, "N V"], first: bool) -> _Loop:
        # As in transformers, the probabilities of suppressed tokens are not distributed among the others.
        scores = apply_rules(rules, jax.nn.log_softmax(logits, axis=-1), loop.history, first)
        totals = scores.reshape(rows, size, -1) + loop.open.scores[..., None]
        best, flat = jax.lax.top_k(totals.reshape(rows, -1), 2 * size)
        beams, ids = flat // totals.shape[-1], (flat % totals.shape[-1]).astype(jnp.int32)
        tokens = jnp.take_along_axis(loop.open.tokens, beams[..., None], axis=1)
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, ids[..., None], loop.step, axis=2)
        step = loop.step + 1
        stops = (ids == rules.end) | (step == max_tokens)

        finishes = stops & (jnp.arange(2 * size) < size) & loop.improvable[:, None]
        ended = jnp.where(finishes, best / step.astype(jnp.float32) ** length_penalty, _IMPOSSIBLE)
        complete = _best(
            _Beams(
                jnp.concatenate([loop.complete.tokens, tokens], axis=1),
                jnp.concatenate([loop.complete.scores, ended], axis=1),
            ),
            size,
        )
        scores, chosen = jax.lax.top_k(best + jnp.where(stops, _IMPOSSIBLE, 0.0), size)
        still_open = _Beams(_select(tokens, chosen), scores)
        parents = (_select(beams, chosen) + size * jnp.arange(rows)[:, None]).reshape(-1)
        history = jax.tree.map(lambda each: each[parents], loop.history)
        possible = still_open.scores[:, 0] / step.astype(jnp.float32) ** length_penalty
        return _Loop(
            step,
            still_open,
            complete,
            loop.improvable & (possible > complete.scores.min(axis=1)),
            stops.all(),
            extend_history(rules, history, _select(ids, chosen).reshape(-1)),
            jax.tree.map(lambda each: each[parents], loop.cache),
        )

    inputs = run(states, mask, method="attend_to")
    start, no_speech = start_decoding(
        run, prompt, inputs, decoder.empty_cache(rows, offset + max_tokens), no_speech_token
    )
    logits, cache = jax.tree.map(lambda each: jnp.repeat(each, size, axis=0), (start.logits, start.cache))
    filler = jnp.full((rows, size, max_tokens), rules.end, jnp.int32)
    # All hypotheses start alike: only the first one counts.
    none = jnp.full((rows, size), _IMPOSSIBLE)
    loop = _Loop(
        jnp.int32(0),
        _Beams(filler, none.at[:, 0].set(0.0)),
        _Beams(filler, none),
        active,
        jnp.bool_(False),
        start_history(rules, rows * size),
        cache,
    )
    loop = jax.lax.while_loop(improvable, advance, extend(loop, logits, True))
    tokens, score = loop.complete.tokens[:, 0], loop.complete.scores[:, 0]
    counts = (tokens != rules.end).sum(axis=1).astype(jnp.int32)
    with_end = jnp.minimum(counts + 1, max_tokens).astype(jnp.float32)
    return Decoded(tokens, counts, score * with_end ** (length_penalty - 1.0), no_speech)


def _best(beams: _Beams, size: int) -> _Beams:
    scores, chosen = jax.lax.top_k(beams.scores, size)
    return _Beams(_select(beams.tokens, chosen), scores)


def _select(values: Array, chosen: Int[Array, "B K"]) -> Array:
    """Picks entries along the second axis."""
    return jnp.take_along_axis(values, chosen.reshape(chosen.shape + (1,) * (values.ndim - 2)), axis=1)
