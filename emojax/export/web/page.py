"""The format `web`: a folder with a page that runs a model in the browser, on the microphone or a file."""

import json
from functools import partial
from importlib.resources import files
from typing import Any

from emojax.errors import ConfigError
from emojax.export.check import check_stream
from emojax.export.description import Description, check_onnx_model, stream_obstacle
from emojax.export.files import Export, Source
from emojax.export.onnx_files import onnx_session
from emojax.export.onnx_model import stream_model
from emojax.export.onnxruntime_web import PACKAGE, VERSION, read_runtime
from emojax.reporting.results import SCORES
from emojax.workdir import TrainedModel

SCRIPTS = (
    "main.js",
    "engine.js",
    "worker.js",
    "stream_model.js",
    "resample.js",
    "sources.js",
    "wav.js",
    "microphone.js",
    "capture.js",
    "track.js",
    "plot.js",
    "readout.js",
    "errors.js",
)

_SHARED = {"dom.js": ("byId", "element", "formatTime"), "colours.js": ("categoryTokens", "css", "readPalette")}
"""Scripts of the page of an annotation, which this page uses as one module, and the names it imports."""

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; img-src data:; "
    # blob: is a worker that inherits this policy, and a file that the visitor chose, whose duration is read.
    "worker-src 'self' blob:; media-src blob:; base-uri 'none'; form-action 'none'"
)
"""Content Security Policy: nothing but the folder's own files, and no connections to anywhere else."""

SERVER = '''"""Serves this folder on this computer and opens the page: python serve.py [PORT]"""
import functools, http.server, sys, webbrowser
port = int(sys.argv[1]) if sys.argv[1:] else 8000
folder = __file__.replace("\\\\", "/").rpartition("/")[0] or "."
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
    print(f"http://localhost:{port} (Ctrl-C ends)", flush=True)
    webbrowser.open(f"http://localhost:{port}")
    server.serve_forever()
'''


def export_web(source: Source) -> Export:
    """Writes the page, its scripts, the model and the runtime.

    Raises:
      ConfigError: the model cannot run on a stream or has no ONNX graph, or the runtime is missing.
      ExportError: the model's file differs from the model.
    """
    trained, description = source.trained, source.description
    check_web_model(trained)
    runtime = read_runtime(source.runtime)
    export = Export("onnx", example="serve.py")
    content = stream_model(trained, description).SerializeToString()
    session = onnx_session(content)
    check = partial(check_stream, session, source.predictor, source.clips[0], description)
    export.add("stream.onnx", content, check)
    state = json.loads(session.get_modelmeta().custom_metadata_map["stream_state"])
    export.files |= {f"onnxruntime/{name}": file for name, file in runtime.items()}
    export.files |= {name: text.encode() for name, text in page_files(description, state).items()}
    export.note(
        "`index.html` is the page; it needs a web server, any (`python serve.py`, or `python -m http.server`). "
        f"`onnxruntime/` is from {PACKAGE} {VERSION} (Microsoft, MIT licence)."
    )
    return export


def check_web_model(trained: TrainedModel) -> None:
    """Checks that the page can run a model.

    Raises:
      ConfigError: it cannot; the message gives the reason and the alternative.
    """
    obstacle = stream_obstacle(trained)
    if obstacle:
        raise ConfigError(
            f"{trained.workdir}: --format=web runs the model on a stream, and {obstacle}; distil a student of "
            "configs/student_s.py from this model (docs/distillation.md)"
        )
    check_onnx_model(trained)


def page_files(description: Description, state: dict[str, Any]) -> dict[str, str]:
    """Text files of the page by name.

    Args:
      description: model.
      state: shape of each part of the state of a stream, without the batch.
    """
    page = _resource("index.html").replace("{{policy}}", POLICY, 1)
    # The data come last, so that no placeholder within them is replaced.
    page = page.replace("{{data}}", _json_block(page_data(description, state)), 1)
    shared = "\n".join(_annotation_resource(name) for name in _SHARED)
    exported = ", ".join(name for names in _SHARED.values() for name in names)
    return {
        "index.html": page,
        "page.css": _annotation_resource("base.css") + "\n" + _resource("page.css"),
        "shared.js": f"{shared}\nexport {{ {exported} }};\n",
        "serve.py": SERVER,
        "onnxruntime/LICENSE": _resource("onnxruntime_licence.txt"),
        **{name: _resource(name) for name in SCRIPTS},
    }


def page_data(description: Description, state: dict[str, Any]) -> dict[str, Any]:
    """What the page shows and needs of a model, as values of JSON."""
    return {
        **{name: getattr(description, name) for name in ("name", "attributes", "scale", "categories")},
        **{name: getattr(description, name) for name in ("corpus", "licence", "citation", "speech", "step")},
        "scores": [
            {
                "corpus": result["corpus"],
                "split": result["split"],
                "values": [[SCORES.get(name, name), round(value, 3)] for name, value in result["scores"].items()],
            }
            for result in description.scores
        ],
        "shortest": description.min_samples,
        "state": state,
        "runtime": VERSION,
    }


def _json_block(data: dict[str, Any]) -> str:
    """JSON that cannot end its script element: "<" occurs in strings only, and is written as an escape there."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _resource(name: str) -> str:
    return (files("emojax.export.web") / name).read_text(encoding="utf-8")


def _annotation_resource(name: str) -> str:
    return (files("emojax.annotation.page") / name).read_text(encoding="utf-8")
