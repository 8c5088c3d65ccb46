"""The command `python -m emojax.serve RUN`: order of the start, the listening socket, and the graceful stop."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from emojax.errors import ConfigError, reason
from emojax.inference.predictor import Predictor, load
from emojax.interruption import Interruption, end_process
from emojax.serve.access_log import AccessLog, write_log
from emojax.serve.application import make_application
from emojax.serve.service import Service
from emojax.serve.sessions import MOST_MESSAGE_BYTES
from emojax.serve.settings import ServeConfig

_CLOSE_SECONDS = 5
"""Longest time for answers on their way to clients, after all requests were computed."""

_POLL_SECONDS = 0.05


def serve(workdir: Path, config: ServeConfig, programs: Path | None = None) -> int:
    """Serves a model until SIGTERM or Ctrl-C; returns the exit status.

    Args:
      workdir: folder of a run.
      config: settings.
      programs: folder of compiled programs, see `Predictor.keep_programs`; None: nothing is kept.

    Raises:
      EmojaxError: the workdir is invalid, or its model cannot be served.
      OSError: the address is not available.
    """
    with open_socket(config.host, config.port) as listener:
        predictor = load(workdir)
        check_servable(predictor, workdir)
        if programs is not None:
            predictor.keep_programs(programs)
        with Interruption() as interruption:
            return asyncio.run(_serve(predictor, config.name or workdir.resolve().name, config, listener, interruption))


def open_socket(host: str, port: int) -> socket.socket:
    """Opens the listening socket, before the model is loaded.

    Raises:
      ConfigError: the address is not available.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host and --port: {host}:{port} cannot be used ({reason(error)})") from None
    # Connections inherit it. Without it the second part of an answer waits 40 ms for an acknowledgement; asyncio sets
    # it only on sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def check_servable(predictor: Predictor, workdir: Path) -> None:
    """Checks that a model needs nothing but audio.

    Raises:
      ConfigError: it has a lexical modality, and clips have no transcripts.
    """
    if predictor.takes_transcripts:
        raise ConfigError(
            f"{workdir}: this model has a lexical modality, and requests have no transcripts; serve a model of audio "
            "alone, e.g. its student"
        )


async def _serve(
    predictor: Predictor, name: str, config: ServeConfig, listener: socket.socket, interruption: Interruption
) -> int:
    service = Service(predictor, name, config)
    server = make_server(make_application(service), config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    starting = asyncio.create_task(service.start())
    starting.add_done_callback(lambda task: _log_started(task, name, listener))
    try:
        while interruption.received is None and not serving.done() and not _failed(starting):
            await asyncio.sleep(_POLL_SECONDS)
        write_log(sys.stderr, level="info", message="stopping", admitted=service.num_admitted[0])
        answered = await service.stop(config.stop_seconds)
        server.should_exit = True
        await serving
        write_log(sys.stderr, level="info", message="stopped", all_answered=answered)
    finally:
        service.close()
    if not (starting.done() and answered):
        end_process(0)  # the thread that compiles or computes cannot be stopped otherwise
    return int(_failed(starting))


def _failed(starting: "asyncio.Task[int]") -> bool:
    return starting.done() and starting.exception() is not None


def _log_started(starting: "asyncio.Task[int]", name: str, listener: socket.socket) -> None:
    if starting.cancelled():
        return
    error = starting.exception()
    if error is not None:
        write_log(sys.stderr, level="error", message=f"the model cannot be compiled: {reason(error)}")
        return
    host, port = listener.getsockname()[:2]
    write_log(sys.stderr, level="info", message="ready", model=name, host=host, port=port, shapes=starting.result())


class _Server(uvicorn.Server):
    """A server without signal handlers, which are those of `emojax.interruption`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(application: AccessLog, config: ServeConfig) -> uvicorn.Server:
    """Creates the HTTP server of an application; it ends when `should_exit` is set."""
    for logger in ("uvicorn", "uvicorn.error", "python_multipart"):
        logging.getLogger(logger).handlers = [_JsonHandler()]
        logging.getLogger(logger).propagate = False
        logging.getLogger(logger).setLevel(logging.ERROR)
    arguments: dict[str, Any] = {
        "loop": "asyncio",
        "http": "h11",
        "ws": "websockets-sansio",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "ws_max_size": MOST_MESSAGE_BYTES,
        "ws_per_message_deflate": False,  # a small message could expand to a large one
        "timeout_graceful_shutdown": _CLOSE_SECONDS,
    }
    return _Server(uvicorn.Config(application, **arguments))


class _JsonHandler(logging.Handler):
    """Writes log records of libraries as lines of JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record."""
        fields = {"traceback": logging.Formatter().formatException(record.exc_info)} if record.exc_info else {}
        write_log(sys.stderr, level=record.levelname.lower(), message=record.getMessage().strip(), **fields)
