"""Greedy decoding and sampling of tokens: one compiled loop over a batch of windows, without host round trips."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from emojax.recognition.token_rules import History, TokenRules, apply_rules, extend_history, start_history
from emojax.recognition.whisper_decoder import DecoderInputs, KeysValues, WhisperDecoder


class Decoded(NamedTuple):
    """Tokens of a batch of windows.

    Attributes:
      tokens: int32 (B, M), without prompt and end; filled up with the end.
      counts: int32 (B,), tokens of each row.
      log_probability: float32 (B,), mean over the tokens and the end, before temperature.
      no_speech: float32 (B,), probability of no speech after the first token of the prompt; NaN without such a token.
    """

    tokens: Any
    counts: Any
    log_probability: Any
    no_speech: Any


class _Loop(NamedTuple):
    """State of the loop; rows are finished once they have the end."""

    step: Int[Array, ""]
    tokens: Int[Array, "B M"]
    last: Int[Array, "B"]
    finished: Bool[Array, "B"]
    log_probability: Float[Array, "B"]
    history: History
    cache: tuple[KeysValues, ...]


@functools.partial(jax.jit, static_argnames=("decoder", "rules", "no_speech_token", "max_tokens", "sample"))
def decode_tokens(
    decoder: WhisperDecoder,
    params: Mapping[str, Any],
    states: Float[Array, "B T D"],
    mask: Bool[Array, "B T"],
    prompt: Int[Array, "B P"],
    active: Bool[Array, "B"],
    keys: Key[Array, "B"],
    temperature: Float[Array, ""],
    *,
    rules: TokenRules,
    no_speech_token: int | None,
    max_tokens: int,
    sample: bool,
) -> Decoded:
    """Decodes the most probable token after each other, or samples them.

    Args:
      decoder: module.
      params: its parameters.
      states: hidden states of the encoder.
      mask: True on valid frames.
      prompt: tokens before the text.
      active: rows that are decoded; the others are filler.
      keys: random keys of the rows, used for sampling.
      temperature: divisor of the logits in sampling, > 0.
      rules: which tokens may follow.
      no_speech_token: id whose probability is that of no speech.
      max_tokens: M, longest text; prompt and text fit the decoder's positions.
      sample: whether tokens are sampled.
    """
    run: Any = functools.partial(decoder.apply, {"params": params})
    rows, offset = prompt.shape

    def choose(logits: Float[Array, "B V"], step: int | Int[Array, ""]) -> tuple[Array, Array]:
        if sample:
            drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
            tokens = jax.vmap(jax.random.categorical)(drawn, logits / temperature).astype(jnp.int32)
        else:
            tokens = first_maximum(logits)
        chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
        return tokens, chosen - jax.nn.logsumexp(logits, axis=-1)

    def extend(loop: _Loop, logits: Float[Array, "B V"], cache: tuple[KeysValues, ...], first: bool) -> _Loop:
        tokens, scores = choose(apply_rules(rules, logits, loop.history, first), loop.step)
        tokens = jnp.where(loop.finished, rules.end, tokens)
        return _Loop(
            loop.step + 1,
            jax.lax.dynamic_update_slice_in_dim(loop.tokens, tokens[:, None], loop.step, axis=1),
            tokens,
            loop.finished | (tokens == rules.end),
            loop.log_probability + jnp.where(loop.finished, 0.0, scores),
            extend_history(rules, loop.history, tokens),
            cache,
        )

    def unfinished(loop: _Loop) -> Bool[Array, ""]:
        return (loop.step < max_tokens) & ~loop.finished.all()

    def advance(loop: _Loop) -> _Loop:
        output = run(loop.last[:, None], inputs, loop.cache, offset + loop.step - 1, method="decode")
        return extend(loop, run(output.states[:, 0], method="logits"), output.cache, False)

    inputs: DecoderInputs = run(states, mask, method="attend_to")
    cache = decoder.empty_cache(rows, offset + max_tokens)
    start, no_speech = start_decoding(run, prompt, inputs, cache, no_speech_token)
    filler = jnp.full((rows, max_tokens), rules.end, jnp.int32)
    loop = _Loop(jnp.int32(0), filler, filler[:, 0], ~active, jnp.zeros(rows), start_history(rules, rows), start.cache)
    loop = jax.lax.while_loop(unfinished, advance, extend(loop, start.logits, start.cache, True))
    counts = (loop.tokens != rules.end).sum(axis=1).astype(jnp.int32)
    with_end = jnp.minimum(counts + 1, max_tokens)
    return Decoded(loop.tokens, counts, loop.log_probability / with_end, no_speech)


class Start(NamedTuple):
    """Logits of the first token, and the cache of the prompt."""

    logits: Any
    cache: tuple[KeysValues, ...]


def start_decoding(
    run: Any,
    prompt: Int[Array, "B P"],
    inputs: DecoderInputs,
    cache: tuple[KeysValues, ...],
    no_speech_token: int | None,
) -> tuple[Start, Float[Array, "B"]]:
    """Computes the prompt: logits after its last token, and the probability of no speech after its first one.

    Args:
      run: `decoder.apply` with the parameters.
      prompt: tokens before the text.
      inputs: keys and values of the encoder's states.
      cache: empty.
      no_speech_token: id whose probability is that of no speech.
    """
    output = run(prompt, inputs, cache, 0, method="decode")
    if no_speech_token is None:
        return Start(run(output.states[:, -1], method="logits"), output.cache), jnp.full(len(prompt), jnp.nan)
    # Both positions in one product: the embeddings are read once.
    logits = run(jnp.concatenate([output.states[:, 0], output.states[:, -1]]), method="logits")
    first, last = jnp.split(logits, 2)
    return Start(last, output.cache), jnp.exp(first[:, no_speech_token] - jax.nn.logsumexp(first, axis=-1))


@functools.partial(jax.jit, static_argnames=("decoder", "start", "languages"))
def detect_languages(
    decoder: WhisperDecoder,
    params: Mapping[str, Any],
    states: Float[Array, "B T D"],
    mask: Bool[Array, "B T"],
    *,
    start: int,
    languages: tuple[int, ...],
) -> Int[Array, "B"]:
    """Finds the most probable language token after the start of the transcript (Radford et al. 2023, section 2.3).

    Args:
      decoder: module.
      params: its parameters.
      states: hidden states of the encoder.
      mask: True on valid frames.
      start: id of the start of the transcript.
      languages: ids of the languages.

    Returns:
      Index in `languages` per row.
    """
    run: Any = functools.partial(decoder.apply, {"params": params})
    tokens = jnp.full((len(states), 1), start, jnp.int32)
    output = run(tokens, run(states, mask, method="attend_to"), decoder.empty_cache(len(states), 1), 0, method="decode")
    return run(output.states[:, 0], method="logits")[:, list(languages)].argmax(axis=-1)


def first_maximum(values: Float[Array, "N V"]) -> Int[Array, "N"]:
    """Finds the first index of the maximum of each row; on CPU, XLA computes two reductions faster than argmax."""
    best = values.max(axis=-1, keepdims=True)
    ids = jnp.arange(values.shape[-1], dtype=jnp.int32)
    return jnp.where(values == best, ids, jnp.int32(values.shape[-1])).min(axis=-1)
