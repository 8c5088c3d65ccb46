"""The service without HTTP: a model, its warm-up, the queue of clips, the sessions of streams, the graceful stop."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from emojax.errors import ConfigError
from emojax.inference.batches import BatchedPredictions
from emojax.inference.predictor import Prediction, Predictor
from emojax.inference.stream import Stream, advance_streams, check_streaming, warm_streams
from emojax.serve.batching import BatchQueue, QueueClosed, QueueFull
from emojax.serve.decoding import Decoders, EncodedAudio
from emojax.serve.metrics import Metrics
from emojax.serve.problems import Problem
from emojax.serve.settings import ServeConfig
from emojax.types import ATTRIBUTES, SAMPLE_RATE

State = Literal["starting", "ready", "stopping"]

_STREAMS_AT_ONCE = 16
"""Most sessions that are advanced in one computation."""


class Service:
    """Predictions of clips and streams for concurrent callers in one event loop."""

    def __init__(self, predictor: Predictor, name: str, config: ServeConfig):
        """Starts the decoding processes; `start` compiles.

        Args:
          predictor: model, without lexical modality.
          name: name of its workdir, part of the answers.
          config: settings.
        """
        self.predictor, self.config = predictor, config
        self.model = describe_model(predictor, name)
        self.metrics = Metrics({"name": name, "corpus": predictor.corpus.name, "step": str(predictor.trained.step)})
        self.state: State = "starting"
        self.stopping = asyncio.Event()
        self.cannot_stream = _reason_not_to_stream(predictor)
        self._decoders = Decoders(config.num_decoders, config.decode_seconds, config.max_seconds, config.max_bytes)
        # One thread for all computations: XLA uses all cores for each.
        self._executor = ThreadPoolExecutor(1, "emojax-compute")
        self._clips = BatchQueue[Float32[np.ndarray, "S"], Prediction](
            self._predict_batch, self._executor, config.queue, config.batch, config.batch_delay
        )
        self._updates = BatchQueue[tuple[Stream, np.ndarray], Prediction | None](
            self._advance_batch, self._executor, max(config.streams, 1), _STREAMS_AT_ONCE
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Compiles everything that requests compute, and is then ready; returns the number of compiled shapes."""
        self._tasks = [asyncio.create_task(queue.run()) for queue in (self._clips, self._updates)]
        shapes = await asyncio.get_running_loop().run_in_executor(self._executor, self._warm_up)
        if self.state == "starting":
            self.state = "ready"
            self.metrics.ready.set(1)
        return shapes

    def _warm_up(self) -> int:
        shapes = self.predictor.warmup(self.config.max_seconds, self.config.batch)
        if self.cannot_stream or not self.config.streams:
            return shapes
        return shapes + warm_streams(self.predictor, min(_STREAMS_AT_ONCE, self.config.streams))

    async def stop(self, seconds: float) -> bool:
        """Refuses further requests, ends the sessions, and waits for the requests that were admitted.

        Returns:
          Whether all of them ended within `seconds`.
        """
        self.state = "stopping"
        self.metrics.ready.set(0)
        self.stopping.set()
        self._clips.close()
        self._updates.close()
        end = time.monotonic() + seconds
        answered = await self._clips.drain(seconds)
        return await self._updates.drain(max(end - time.monotonic(), 0)) and answered

    def close(self) -> None:
        """Ends tasks and processes."""
        for task in self._tasks:
            task.cancel()
        self._decoders.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def check_ready(self) -> None:
        """Checks that requests are accepted.

        Raises:
          Problem: 503 while the service starts or stops.
        """
        if self.state != "ready":
            raise Problem(503, f"the service is {self.state}")

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a place in the queue of clips.

        Raises:
          Problem: 503: the queue is full, or the service starts or stops.
        """
        with self._place(self._clips, f"the queue of {self.config.queue} requests is full"):
            yield

    @contextlib.contextmanager
    def open_session(self) -> Iterator[None]:
        """Holds a place for a session.

        Raises:
          Problem: 501 the model cannot stream; 503 as many sessions as allowed, or the service starts or stops.
        """
        if self.cannot_stream:
            raise Problem(501, f"this model cannot stream: {self.cannot_stream}")
        if not self.config.streams:
            raise Problem(501, "this service takes no streams (--streams=0)")
        with self._place(self._updates, f"all {self.config.streams} sessions are in use"):
            yield

    @contextlib.contextmanager
    def _place(self, queue: BatchQueue[Any, Any], full: str) -> Iterator[None]:
        self.check_ready()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(queue.admit())
            except QueueFull:
                raise Problem(503, full) from None
            except QueueClosed:
                raise Problem(503, "the service is stopping") from None
            yield

    async def predict(self, audio: EncodedAudio) -> tuple[Prediction, float]:
        """Decodes and predicts a clip, within `admit`; returns the prediction and the duration (s).

        Raises:
          Problem: the audio is invalid; see `Decoders.decode`. 422: it is shorter than a frame of the model.
        """
        start = time.monotonic()
        samples = await self._decoders.decode(audio)
        self.metrics.replaced_decoders.set(self._decoders.replaced)
        decoded = time.monotonic()
        self.metrics.decode_seconds.observe(decoded - start)
        if len(samples) < self.predictor.min_samples:
            least = self.predictor.min_samples / SAMPLE_RATE
            raise Problem(422, f"audio must have at least {least:g} s, got {len(samples) / SAMPLE_RATE:g} s")
        prediction = await self._clips.submit(samples)
        self.metrics.predict_seconds.observe(time.monotonic() - decoded)
        self.metrics.audio_seconds.labels("clip").inc(len(samples) / SAMPLE_RATE)
        return prediction, len(samples) / SAMPLE_RATE

    async def advance(self, stream: Stream, samples: Float32[np.ndarray, "S"]) -> Prediction | None:
        """Adds samples to a stream, within `open_session`; see `Stream`. One call per stream at a time."""
        prediction = await self._updates.submit((stream, samples))
        self.metrics.updates.inc()
        self.metrics.audio_seconds.labels("stream").inc(len(samples) / SAMPLE_RATE)
        return prediction

    def _predict_batch(self, clips: Sequence[np.ndarray]) -> Iterator[tuple[int, Prediction]]:
        self.metrics.batch_clips.observe(len(clips))
        batches = BatchedPredictions(self.predictor)
        for number, samples in enumerate(clips):
            for start, length in self.predictor.window_bounds(len(samples)):
                yield from batches.add(number, samples[start : start + length], "")
            yield from batches.end(number)
        yield from batches.rest()

    def _advance_batch(self, items: Sequence[tuple[Stream, np.ndarray]]) -> Iterator[tuple[int, Prediction | None]]:
        self.metrics.update_rows.observe(len(items))
        yield from enumerate(advance_streams([stream for stream, _ in items], [samples for _, samples in items]))

    @property
    def num_admitted(self) -> tuple[int, int]:
        """Requests in the queue, and open sessions."""
        return self._clips.admitted, self._updates.admitted


def _reason_not_to_stream(predictor: Predictor) -> str:
    config = predictor.trained.config.model
    try:
        check_streaming(config.modalities, config.log_mel)
    except ConfigError as error:
        return str(error)
    return ""


def describe_model(predictor: Predictor, name: str) -> dict[str, Any]:
    """Description of a model as part of each answer.

    Args:
      predictor: model.
      name: name of its workdir.
    """
    corpus, outputs = predictor.corpus, predictor.trained.outputs
    return {
        "name": name,
        "step": predictor.trained.step,
        "corpus": corpus.name,
        "scale": list(corpus.scale),
        "attributes": [each for each, flag in zip(ATTRIBUTES, outputs.attributes, strict=True) if flag],
        "categories": list(corpus.categories) if outputs.categories else [],
    }
