"""Times of tokens from the attention of the decoder: dynamic time warping over the weights of chosen heads.

The procedure is that of Radford et al.'s published code: weights of the alignment heads are normalised over the tokens,
smoothed by a median filter over the frames, averaged over the heads, and the cheapest monotonic path gives each token
its frames.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from emojax.recognition.whisper_decoder import Heads, WhisperDecoder

_FILTER_FRAMES = 7


@functools.partial(jax.jit, static_argnames=("decoder", "heads", "end"))
def attend_text(
    decoder: WhisperDecoder,
    params: Mapping[str, Any],
    states: Float[Array, "B T D"],
    mask: Bool[Array, "B T"],
    tokens: Int[Array, "B L"],
    *,
    heads: Heads,
    end: int,
) -> tuple[Float[Array, "B A L T"], Float[Array, "B L"]]:
    """Computes attention weights of given tokens, and how probable each token is after those before it.

    Args:
      decoder: module.
      params: its parameters.
      states: hidden states of the encoder.
      mask: True on valid frames.
      tokens: prompt and text.
      heads: A alignment heads.
      end: id of the end of the text; text has smaller ids.

    Returns:
      Weights over the frames, and the probability of each token but the first among the tokens of text (0 for the
      first one).
    """
    run: Any = functools.partial(decoder.apply, {"params": params})
    inputs, cache = run(states, mask, method="attend_to"), decoder.empty_cache(*tokens.shape)
    output = run(tokens, inputs, cache, 0, heads, method="decode")

    def row_probabilities(operands: tuple[Array, Array]) -> Array:
        # One row at a time: the logits of all would take gigabytes.
        of_row, following = operands
        logits = run(of_row[:-1], method="logits")[:, :end]
        scores = jnp.take_along_axis(logits, jnp.minimum(following, end - 1)[:, None], axis=-1)[:, 0]
        return jnp.exp(scores - jax.nn.logsumexp(logits, axis=-1))

    probabilities = jax.lax.map(row_probabilities, (output.states, tokens[:, 1:]))
    return output.weights.transpose(1, 0, 2, 3), jnp.pad(probabilities, ((0, 0), (1, 0)))


def token_frames(weights: Float[np.ndarray, "A L T"], first: int) -> Int[np.ndarray, "N"]:
    """Finds the first frame of each token.

    Args:
      weights: attention weights of the alignment heads for prompt, text and end, over the frames of the window.
      first: number of tokens of the prompt, whose last one predicts the first token of the text.

    Returns:
      For the N - 1 tokens of the text and the end after them the frame where each starts.
    """
    weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    spread = np.maximum(weights.std(axis=-2, keepdims=True), np.finfo(np.float32).tiny)
    normalised = (weights - weights.mean(axis=-2, keepdims=True)) / spread
    matrix = median_filter(normalised, _FILTER_FRAMES).mean(axis=0)[first - 1 : -1]
    rows, frames = cheapest_path(-matrix)
    return frames[np.diff(rows, prepend=-1) > 0]


def median_filter(values: Float[np.ndarray, "*A T"], width: int) -> Float[np.ndarray, "*A T"]:
    """Replaces each value by the median of the `width` around it; the ends are reflected."""
    half = width // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1)
    return np.partition(around, half, axis=-1)[..., half]


def cheapest_path(costs: Float[np.ndarray, "N T"]) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """Finds the cheapest monotonic path from the first to the last pair (dynamic time warping).

    Args:
      costs: cost of each pair of row and column.

    Returns:
      Rows and columns of the path.
    """
    num_rows, num_columns = costs.shape
    total = np.full((num_rows + 1, num_columns + 1), np.inf, np.float32)
    total[0, 0] = 0
    moves = np.zeros((num_rows + 1, num_columns + 1), np.int8)
    moves[0, :], moves[:, 0] = 2, 1
    # Pairs on one anti-diagonal depend on the two before it only.
    for diagonal in range(2, num_rows + num_columns + 1):
        i = np.arange(max(1, diagonal - num_columns), min(num_rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        move = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        moves[i, j] = move
        total[i, j] = costs[i - 1, j - 1] + np.choose(move, (both, down, right))
    path = []
    i, j = num_rows, num_columns
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        move = moves[i, j]
        i, j = i - (move != 2), j - (move != 1)
    rows, columns = np.array(path[::-1]).T
    return rows, columns
