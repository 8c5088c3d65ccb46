"""Assembles the page of an annotation from its template, style, scripts and data."""

import base64
import hashlib
import json
import mimetypes
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from emojax.annotation.page.payload import page_payload
from emojax.errors import EmojaxError

SCRIPTS = (
    "dom.js",
    "annotation.js",
    "colours.js",
    "filter.js",
    "peaks.js",
    "timeline.js",
    "gestures.js",
    "player.js",
    "transcript.js",
    "controls.js",
    "extremes.js",
    "keyboard.js",
    "main.js",
)
"""Scripts in the order in which they are joined: a script uses the names of those before it."""

MAX_EMBEDDED_BYTES = 50_000_000
"""Largest audio file that is embedded in a page."""

_MEDIA_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".opus": "audio/ogg",
    ".ogg": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
}


def render_annotation_page(annotation: Mapping[str, Any], audio_source: str) -> str:
    """Renders one HTML document that works from disk, without a network.

    All text of the annotation is part of a JSON data block, which scripts insert as text only. The page's Content
    Security Policy allows its own script and style by their digests, and no connections.

    Args:
      annotation: annotation of a recording, as its JSON file holds it.
      audio_source: path of the audio file relative to the folder of the page, with "/" (not percent-encoded), or the
        result of `audio_data_uri`.

    Returns:
      The document; all characters are ASCII.

    Raises:
      EmojaxError: the annotation does not have the documented form, or `audio_source` is empty.
    """
    if not audio_source:
        raise EmojaxError("`audio_source` must be a path or a data URI, got ''")
    payload = page_payload(annotation) | {"audio": _audio_reference(audio_source)}
    script = "(() => {\n'use strict';\n" + "\n".join(_resource(name) for name in SCRIPTS) + "})();\n"
    style = _resource("base.css") + _resource("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        # 'self' does not include the page's folder under file: in every browser. blob: is a file that the user chose.
        "media-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
    )
    page = _resource("page.html")
    # The data come last, so that no placeholder within them is replaced.
    for placeholder, text in (
        ("{{policy}}", policy),
        ("{{style}}", style),
        ("{{script}}", script),
        ("{{data}}", _json_block(payload)),
    ):
        page = page.replace(placeholder, text, 1)
    return page


def audio_data_uri(path: Path) -> str:
    """Returns a short audio file as a data URI, for a page that is one file.

    Args:
      path: audio file in a format that browsers play.

    Raises:
      EmojaxError: the file is unreadable or larger than `MAX_EMBEDDED_BYTES`, or its type is unknown.
    """
    kind = _MEDIA_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith(("audio/", "video/")):
        raise EmojaxError(f"{path}: cannot be embedded, its type is unknown; reference the file instead")
    try:
        size = path.stat().st_size
        if size > MAX_EMBEDDED_BYTES:
            raise EmojaxError(
                f"{path}: must be <= {MAX_EMBEDDED_BYTES // 10**6} MB to be embedded, got {size / 1e6:.0f} MB; "
                "reference the file instead"
            )
        content = path.read_bytes()
    except OSError as error:
        raise EmojaxError(f"{path}: cannot be read ({error.strerror})") from error
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _audio_reference(source: str) -> str:
    """URL of the audio: a data URI of audio as it is; anything else is a path, also if it looks like another URL."""
    if source.startswith(("data:audio/", "data:video/")):
        return source
    encoded = quote(source, safe="/", errors="surrogateescape")
    return encoded if encoded.startswith("/") else f"./{encoded}"


def _json_block(payload: Mapping[str, Any]) -> str:
    """JSON that cannot end its script element: "<" occurs in strings only, and is written as an escape there."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _resource(name: str) -> str:
    return (files("emojax.annotation.page") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
