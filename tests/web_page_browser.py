"""A web server for exported pages, and what tests do with a page in a headless Chromium."""

import base64
import contextlib
import functools
import http.server
import struct
import threading

import numpy as np

from tests.annotation_page_browser import PageDriver


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(folder):
    """Serves a folder as `python -m http.server` does; yields its address."""
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


FLOATS = """
const array = arguments[0](recording);
let text = '';
const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
return btoa(text);
"""


def wav_header(frames, rate=16_000):
    """Header of a mono WAV file of 16 bits."""
    size = 2 * frames
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size
    )


def write_silence(path, hours):
    """A sparse WAV file."""
    frames = round(hours * 3600 * 16_000)
    with path.open("wb") as file:
        file.write(wav_header(frames))
        file.truncate(44 + 2 * frames)


class WebPage(PageDriver):
    """Actions of a visitor, and the values and samples that the page keeps for tests."""

    def open(self, address, page="index.html"):
        self.browser.get_log("browser")
        self.browser.get("about:blank")
        self.browser.get(f"{address}/{page}#record")
        self.until(lambda: self.text("#state") == "Ready" or self.notice(), 60)
        return self

    def notice(self):
        return self.text("#notice")

    def choose(self, path, ending=": done", seconds=60):
        """Chooses a file and waits for the end of its run; returns the text of the state."""
        self.run("globalThis.recording = undefined")
        self.find("#file").send_keys(str(path))
        return self.finished(path.name, ending, seconds)

    def finished(self, label, ending=": done", seconds=60):
        state = self.until(
            lambda: (lambda text: text if text.startswith(f"{label}: ") and "opening" not in text else "")(
                self.text("#state")
            ),
            seconds,
        )
        assert ending in state, (state, self.notice())
        return state

    def array(self, expression, dtype):
        """A typed array of the last run."""
        script = FLOATS.replace("arguments[0](recording)", expression)
        return np.frombuffer(base64.b64decode(self.run(script)), dtype)

    def samples(self):
        """Samples at 16 kHz that the model got."""
        return self.array("recording.samples", np.float32)

    def track(self):
        """Times and starts of the estimates (s), and values (points, columns)."""
        count = self.run("return recording.track.count")
        columns = self.run("return recording.track.columns")
        times, since = (
            self.array(f"recording.track.{name}.slice(0, {count})", np.float64) for name in ("times", "since")
        )
        values = self.array(f"recording.track.values.slice(0, {count * len(columns)})", np.float32)
        return times, since, values.reshape(count, len(columns))
