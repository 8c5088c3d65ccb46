"""Metrics of the service in the text format of Prometheus."""

from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Metrics of one service.

    Attributes:
      requests: requests by route and status; of a WebSocket session its close code.
      seconds: time from the first byte of a request to its answer, by route.
      decode_seconds: time of a clip from its last byte to its samples, with the wait for a process.
      predict_seconds: time of a clip from its samples to its prediction, with the wait for its batch.
      batch_clips: clips per batch.
      audio_seconds: audio that was predicted, by kind: clip, stream.
      admitted: requests in the queue, in any state.
      sessions: open WebSocket sessions.
      updates: updates of WebSocket sessions.
      update_rows: sessions per computation.
      replaced_decoders: decoding processes that were ended or died.
      ready: whether requests are accepted.
    """

    def __init__(self, model: dict[str, str]):
        """Creates the metrics.

        Args:
          model: labels of `emojax_model_info`.
        """
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        options: dict[str, Any] = {"registry": self.registry, "namespace": "emojax"}
        self.requests = Counter("requests", "Requests", ["route", "status"], **options)
        self.seconds = Histogram("request_seconds", "Time per request", ["route"], buckets=_SECONDS, **options)
        self.decode_seconds = Histogram("decode_seconds", "Time to decode a clip", buckets=_SECONDS, **options)
        self.predict_seconds = Histogram("predict_seconds", "Time to predict a clip", buckets=_SECONDS, **options)
        self.batch_clips = Histogram("batch_clips", "Clips per batch", buckets=(1, 2, 4, 8, 16, 32, 64), **options)
        self.audio_seconds = Counter("audio_seconds", "Audio that was predicted", ["kind"], **options)
        self.admitted = Gauge("queue_requests", "Requests in the queue", **options)
        self.sessions = Gauge("sessions", "Open WebSocket sessions", **options)
        self.updates = Counter("session_updates", "Updates of WebSocket sessions", **options)
        self.update_rows = Histogram(
            "session_rows", "Sessions per computation", buckets=(1, 2, 4, 8, 16, 32, 64), **options
        )
        self.replaced_decoders = Gauge("replaced_decoders", "Decoding processes that ended", **options)
        self.ready = Gauge("ready", "Whether requests are accepted", **options)
        Info("model", "Model and version", **options).info(model)

    def text(self) -> bytes:
        """The metrics, of type `CONTENT_TYPE`."""
        return generate_latest(self.registry)
