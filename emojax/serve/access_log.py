"""Outermost layer of the application: one line of JSON and one count per request, and no traceback to clients."""

import contextlib
import datetime
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TextIO

from emojax.serve.metrics import Metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def write_log(out: TextIO, **fields: Any) -> None:
    """Writes a line of JSON with the time (UTC); a closed stream is ignored."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    try:
        print(json.dumps({"time": now, **fields}), file=out, flush=True)
    except (OSError, ValueError):
        return


def note(scope: Scope, **fields: Any) -> None:
    """Adds fields to the line of a request."""
    scope.setdefault("emojax.log", {}).update(fields)


class AccessLog:
    """ASGI application around another."""

    def __init__(self, application: Application, metrics: Metrics, routes: set[str]):
        """Wraps an application.

        Args:
          application: application.
          metrics: requests are counted here.
          routes: paths that are counted by their name; others are "other", so that clients cannot add any.
        """
        self._application, self._metrics, self._routes = application, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request or a WebSocket session."""
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
            return
        start, sent = time.monotonic(), _Sent(send)
        try:
            await self._application(scope, receive, sent)
        except Exception as error:
            note(scope, error=f"{type(error).__name__}: {error}"[:300])
            write_log(sys.stderr, level="error", message="internal error", traceback=traceback.format_exc())
            if scope["type"] == "websocket":  # HTTP requests were answered by the application's handler
                with contextlib.suppress(Exception):
                    await sent({"type": "websocket.close", "code": 1011})
        seconds = time.monotonic() - start
        route = scope["path"] if scope["path"] in self._routes else "other"
        self._metrics.requests.labels(route, str(sent.status)).inc()
        if scope["type"] == "http":
            self._metrics.seconds.labels(route).observe(seconds)
        client = scope.get("client")
        write_log(
            sys.stdout,
            client=client[0] if client else None,
            method=scope.get("method", "WEBSOCKET"),
            path=scope["path"][:200],
            status=sent.status,
            seconds=round(seconds, 6),
            **scope.get("emojax.log", {}),
        )


class _Sent:
    """Sends messages; keeps the status of the answer, or the close code of a session."""

    def __init__(self, send: Send):
        self._send, self.status = send, 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        elif message["type"] == "websocket.close":
            self.status = message.get("code", 1000)
        await self._send(message)
