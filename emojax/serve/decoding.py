"""Decoding of audio from clients in worker processes, each with a time limit, a memory limit and no file to write.

Bytes go to a worker and samples come back through a pipe; nothing is unpickled from a worker, and no path or URL is
opened for a client. A worker that exceeds the time limit or dies is replaced, and the clip is an error.
"""

import asyncio
import contextlib
import dataclasses
import io
import json
import multiprocessing
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from emojax.audio.decoding import missing_package
from emojax.audio.files import read_blocks, to_mono_16khz
from emojax.errors import AudioError, AudioFormatError, AudioLengthError
from emojax.inference.decoding_worker import end_with_parent
from emojax.serve.problems import Problem
from emojax.types import SAMPLE_RATE

Encoding = Literal["s16le", "f32le"]

DTYPES: dict[Encoding, str] = {"s16le": "<i2", "f32le": "<f4"}
"""Encodings of audio without a header."""

_MEMORY = 1 << 30
"""Memory (bytes) of a worker beyond its start, body and samples."""

_START_SECONDS = 120.0
"""Longest time (s) that a worker takes to start."""


@dataclasses.dataclass(frozen=True)
class EncodedAudio:
    """Audio as a client sends it.

    Attributes:
      content: content of a file, or samples without a header.
      rate: sample rate (Hz) of samples without a header; None: `content` is a file.
      encoding: encoding of samples without a header.
    """

    content: bytes
    rate: float | None = None
    encoding: Encoding = "s16le"


class Decoders:
    """Worker processes that decode clips."""

    def __init__(self, processes: int, seconds: float, most_seconds: float, most_bytes: int):
        """Starts the processes; they import what they need while this process goes on.

        Args:
          processes: number of processes.
          seconds: longest time to decode a clip (s).
          most_seconds: longest clip (s).
          most_bytes: largest content.
        """
        self._seconds = seconds
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        memory = _MEMORY + 4 * most_bytes + int(16 * most_seconds * SAMPLE_RATE)
        self._start: Callable[[], _Worker] = lambda: _Worker(context, most_seconds, memory)
        self._workers = [self._start() for _ in range(processes)]
        self._threads = ThreadPoolExecutor(processes, "emojax-decoders")
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self._tasks: set[asyncio.Task[np.ndarray]] = set()
        self.replaced = 0

    async def decode(self, audio: EncodedAudio) -> Float32[np.ndarray, "S"]:
        """Decodes a clip to 16 kHz mono, full scale 1.0, as `emojax.audio.read_audio`.

        Raises:
          Problem: 400 no audio, or damaged; 415 a format that needs a package; 422 too long, empty, samples that are
            not finite, or no result within the time limit.
        """
        # A task of its own: a worker is free when it has finished, and not when the client is gone.
        task = asyncio.create_task(self._decode(audio))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _decode(self, audio: EncodedAudio) -> Float32[np.ndarray, "S"]:
        worker = await self._idle.get()
        loop = asyncio.get_running_loop()
        try:
            if not worker.process.is_alive():  # e.g. killed for memory while it was idle
                worker = await loop.run_in_executor(self._threads, self._replaced, worker)
            return await loop.run_in_executor(self._threads, worker.decode, audio, self._seconds)
        except TimeoutError:
            worker = await loop.run_in_executor(self._threads, self._replaced, worker)
            raise Problem(422, f"audio cannot be decoded within {self._seconds:g} s") from None
        except (EOFError, OSError, ValueError):
            worker = await loop.run_in_executor(self._threads, self._replaced, worker)
            raise Problem(422, "audio cannot be read (the process that decoded it ended)") from None
        finally:
            self._idle.put_nowait(worker)

    def _replaced(self, worker: "_Worker") -> "_Worker":
        worker.stop(0.0)
        self.replaced += 1
        other = self._start()
        self._workers[self._workers.index(worker)] = other
        return other

    def close(self) -> None:
        """Ends the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop(0.2)


class _Worker:
    """One process; used by one thread at a time."""

    def __init__(self, context: Any, most_seconds: float, memory: int):
        self._connection, other = context.Pipe()
        arguments = (other, most_seconds, memory)
        self.process = context.Process(target=run_worker, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self._ready = False

    def decode(self, audio: EncodedAudio, seconds: float) -> Float32[np.ndarray, "S"]:
        if not self._ready:
            self._receive(_START_SECONDS)
            self._ready = True
        header = {"rate": audio.rate, "encoding": audio.encoding}
        self._connection.send_bytes(json.dumps(header).encode())
        self._connection.send_bytes(audio.content)
        answer = json.loads(self._receive(seconds))
        if "status" in answer:
            raise Problem(int(answer["status"]), str(answer["detail"]))
        return np.frombuffer(self._receive(seconds), np.float32)

    def _receive(self, seconds: float) -> bytes:
        if not self._connection.poll(seconds):
            raise TimeoutError
        return self._connection.recv_bytes()

    def stop(self, seconds: float) -> None:
        self._connection.close()
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def run_worker(connection: Connection, most_seconds: float, memory: int) -> None:
    """Runs a worker process, which ends when the other side closes the connection or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal
    threading.Thread(target=end_with_parent, daemon=True).start()
    import soundfile  # noqa: F401  # imported before memory is limited, and before the first clip
    import soxr  # noqa: F401

    limit_process(memory)
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(b"ready")
        while True:
            header = json.loads(connection.recv_bytes())
            audio = EncodedAudio(connection.recv_bytes(), header["rate"], header["encoding"])
            try:
                samples = decode_audio(audio, most_seconds)
            except Problem as problem:
                connection.send_bytes(json.dumps({"status": problem.status, "detail": problem.detail}).encode())
                continue
            connection.send_bytes(json.dumps({"samples": len(samples)}).encode())
            connection.send_bytes(np.ascontiguousarray(samples).data)


def limit_process(memory: int) -> None:
    """Limits this process to `memory` (bytes) more than it has, and to no files and core dumps that it writes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # no /proc
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def decode_audio(audio: EncodedAudio, most_seconds: float) -> Float32[np.ndarray, "S"]:
    """Decodes a clip in this process; see `Decoders.decode`.

    Args:
      audio: clip.
      most_seconds: longest clip (s).

    Raises:
      Problem: see `Decoders.decode`.
    """
    too_long = Problem(422, f"audio must have at most {most_seconds:g} s, got more")
    try:
        if audio.rate is not None:
            samples = pcm_samples(audio.content, audio.encoding)
            if len(samples) > most_seconds * audio.rate:
                raise too_long
            return to_mono_16khz(samples, audio.rate, "audio")
        with contextlib.closing(read_blocks(io.BytesIO(audio.content), "audio", most_seconds)) as blocks:
            return np.concatenate(list(blocks))
    except AudioLengthError:
        raise too_long from None
    except AudioFormatError as error:
        raise Problem(415 if missing_package(audio.content[:16]) else 400, str(error)) from None
    except AudioError as error:
        raise Problem(422, str(error)) from None
    except MemoryError:
        raise Problem(422, "audio cannot be decoded in the memory of one clip") from None


def pcm_samples(content: bytes, encoding: Encoding) -> np.ndarray:
    """Samples of audio without a header.

    Raises:
      Problem: 400: a part of a sample at the end.
    """
    dtype = np.dtype(DTYPES[encoding])
    if len(content) % dtype.itemsize:
        raise Problem(400, f"audio of {encoding} must have {dtype.itemsize} bytes per sample, got {len(content)} bytes")
    return np.frombuffer(content, dtype)
