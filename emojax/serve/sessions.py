"""WebSocket sessions: audio in binary messages, a running prediction as JSON after each.

Client: binary messages of s16le or f32le samples of any number, then the text `{"end": true}`. Server: one text per
binary message, in order, and a last one with `"final": true`. Every message is answered, so that a client can count
what it sent; a session that is refused or fails gets `{"error": ...}` before it is closed.
"""

import asyncio
import contextlib
import json
from typing import Any

import numpy as np
from jaxtyping import Float32
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from emojax.audio.files import check_samples, stream_resampler
from emojax.errors import AudioError
from emojax.inference.predictor import Prediction
from emojax.inference.stream import Stream
from emojax.serve.decoding import pcm_samples
from emojax.serve.problems import Problem
from emojax.serve.service import Service
from emojax.serve.uploads import Parameters
from emojax.types import SAMPLE_RATE

MOST_MESSAGE_BYTES = 1 << 20
"""Largest message: 16 s of f32le at 16 kHz; the protocol closes with 1009 after a larger one."""

DONE, GOING_AWAY, UNSUPPORTED, INVALID, POLICY, FAILED = 1000, 1001, 1003, 1007, 1008, 1011
"""Close codes (RFC 6455): after the end; the service stops; no such message; invalid samples; a limit; an error."""


class _Ended(Exception):
    """The session ends with a close code; `message` is the error that the client gets, "" without."""

    def __init__(self, code: int, message: str = ""):
        super().__init__(message)
        self.code, self.message = code, message


async def run_session(websocket: WebSocket, service: Service, parameters: Parameters) -> int:
    """Runs a session that was accepted, within `service.open_session()`; returns its close code.

    Args:
      websocket: connection.
      service: service, whose model can stream.
      parameters: parameters of the connection; without a rate, 16 kHz.
    """
    session = _Session(websocket, service, parameters)
    stop = asyncio.create_task(service.stopping.wait())
    try:
        while True:
            await session.take(await _receive(websocket, stop, service.config.idle_seconds))
    except _Ended as end:
        await _close(websocket, end, service.config.idle_seconds)
        return end.code
    except WebSocketDisconnect as gone:
        return gone.code
    finally:
        stop.cancel()


class _Session:
    """State of a session: its stream, its resampler, and the samples it was given."""

    def __init__(self, websocket: WebSocket, service: Service, parameters: Parameters):
        self._websocket, self._service, self._parameters = websocket, service, parameters
        self._rate = parameters.rate or float(SAMPLE_RATE)
        self._stream, self._resampler = Stream(service.predictor), stream_resampler(self._rate)
        self._samples = 0
        self._last: Prediction | None = None

    async def take(self, message: dict[str, Any]) -> None:
        """Handles a message; raises _Ended at the end of the session."""
        content = message.get("bytes")
        if content is not None:
            await self._advance(self._to_16khz(self._decoded(content)))
            await self._send(final=False)
            return
        try:
            tree = json.loads(message.get("text") or "")
        except (ValueError, RecursionError):
            tree = None
        if tree != {"end": True}:
            raise _Ended(UNSUPPORTED, 'text messages must be {"end": true}')
        if self._resampler is not None:
            await self._advance(self._to_16khz(np.zeros(0, np.float32), last=True))
        await self._send(final=True)
        raise _Ended(DONE)

    def _decoded(self, content: bytes) -> Float32[np.ndarray, "S"]:
        """Samples of a message, full scale 1.0."""
        try:
            samples = pcm_samples(content, self._parameters.encoding)
            if samples.dtype.kind == "i":
                samples = samples.astype(np.float32) / 2**15
            check_samples(samples, f"message of sample {self._samples}")
        except (Problem, AudioError) as error:
            raise _Ended(INVALID, str(error)) from None
        self._samples += len(samples)
        most = self._service.config.stream_seconds
        if self._samples > most * self._rate:
            raise _Ended(POLICY, f"a session must have at most {most:g} s of audio")
        return samples

    def _to_16khz(self, samples: Float32[np.ndarray, "S"], last: bool = False) -> Float32[np.ndarray, "S"]:
        return samples if self._resampler is None else self._resampler.resample_chunk(samples, last=last)

    async def _advance(self, samples: Float32[np.ndarray, "S"]) -> None:
        self._last = await self._service.advance(self._stream, samples)

    async def _send(self, final: bool) -> None:
        tree: dict[str, Any] = {"seconds": self._samples / self._rate, "final": final}
        if self._last is None:  # no frame is complete yet
            tree |= {"attributes": None, "emotion": None, "emotions": None}
        else:
            tree |= self._last.json_tree()
            if self._parameters.embedding:
                tree["embedding"] = self._last.embedding.tolist()
        if final:
            tree["model"] = self._service.model
        await _send(self._websocket, tree, self._service.config.idle_seconds)


async def _receive(websocket: WebSocket, stop: "asyncio.Task[Any]", seconds: float) -> dict[str, Any]:
    """The next message; _Ended if the service stops or none comes in time."""
    receiving = asyncio.create_task(websocket.receive())
    try:
        await asyncio.wait({receiving, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            raise _Ended(GOING_AWAY)
        if not receiving.done():
            raise _Ended(POLICY, f"no message came within {seconds:g} s")
        message = dict(receiving.result())
    finally:
        if not receiving.done():
            receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await receiving
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    return message


async def _send(websocket: WebSocket, tree: dict[str, Any], seconds: float) -> None:
    """Sends a message; a client that does not read is gone after a time."""
    try:
        async with asyncio.timeout(seconds):
            await websocket.send_text(json.dumps(tree, ensure_ascii=False, allow_nan=False))
    except TimeoutError:
        raise _Ended(POLICY) from None


async def _close(websocket: WebSocket, end: _Ended, seconds: float) -> None:
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError, _Ended):
        async with asyncio.timeout(min(seconds, 5.0)):
            if end.message:
                await _send(websocket, {"error": end.message}, seconds)
            await websocket.close(end.code, end.message[:100])
