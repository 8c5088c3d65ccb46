"""The service in a thread of this process, on a free port, with clients that keep the whole answer."""

import asyncio
import http.client
import json
import signal
import threading
import time
import types
from typing import NamedTuple

from emojax.serve import command
from emojax.serve.settings import ServeConfig


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def tree(self):
        return json.loads(self.body)


class Served:
    """A running service."""

    def __init__(self, predictor, **settings):
        self.config = ServeConfig(host="127.0.0.1", port=0, decoders=1, **settings)
        self.interruption = types.SimpleNamespace(received=None)
        listener = command.open_socket(self.config.host, 0)
        self.port = listener.getsockname()[1]
        self.status, self.service = None, None
        self._thread = threading.Thread(target=self._run, args=(predictor, listener), daemon=True)
        self._thread.start()

    def _run(self, predictor, listener):
        made = command.Service

        def keep(*arguments):
            self.service = made(*arguments)
            return self.service

        command.Service = keep
        try:
            self.status = asyncio.run(command._serve(predictor, "toy", self.config, listener, self.interruption))
        finally:
            command.Service = made

    def wait_until_ready(self, seconds=900.0):
        end = time.monotonic() + seconds
        while (answer := self.request("GET", "/health")).status != 200:
            assert time.monotonic() < end, answer
            time.sleep(0.05)

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def predict(self, body, query="", content_type="audio/wav"):
        return self.request("POST", f"/predict{query}", body, {"Content-Type": content_type})

    def url(self, query=""):
        return f"ws://127.0.0.1:{self.port}/stream{query}"

    def ask_to_stop(self):
        self.interruption.received = signal.SIGTERM

    def stop(self):
        """Stops gracefully; returns the exit status."""
        self.ask_to_stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.status
