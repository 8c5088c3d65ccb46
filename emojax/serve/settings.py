"""Settings of the service, and the command-line options made from them."""

import argparse
import dataclasses
import os
import typing
from typing import Annotated, Any

from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, describe_bounds, fields_of, settings

_MOST_SECONDS = 4 * 3600


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@settings
class ServeConfig:
    """Settings of the service; each is an option of the command, `--max-seconds` for `max_seconds`."""

    host: Annotated[str, "Address to listen on; 0.0.0.0: all of them."] = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65_535), "Port; 0: a free one, printed at the start."] = 8000
    name: Annotated[str, "Name of the model in answers and metrics; empty: that of its folder."] = ""
    max_seconds: Annotated[float, Gt(0), Le(_MOST_SECONDS), "Longest clip (s); longer ones get 422."] = 60.0
    max_bytes: Annotated[int, Ge(1), Le(1 << 30), "Largest request body; larger ones get 413."] = 25_000_000
    queue: Annotated[
        int, Ge(1), Le(100_000), "Requests that are received, decoded, waiting or computed; further ones get 503."
    ] = 128
    batch: Annotated[int, Ge(1), Le(1024), "Most clips computed together."] = 8
    batch_delay: Annotated[
        float, Ge(0), Le(10), "Longest wait (s) for clips that are still received or decoded, to compute them together."
    ] = 0.005
    body_seconds: Annotated[float, Gt(0), Le(3600), "Longest time (s) to receive a body; slower ones get 408."] = 30.0
    decoders: Annotated[int, Ge(0), Le(256), "Processes that decode audio; 0: one per core, at most 4."] = 0
    decode_seconds: Annotated[
        float, Gt(0), Le(3600), "Longest time (s) to decode a clip; its process is then ended, and the clip gets 422."
    ] = 10.0
    streams: Annotated[int, Ge(0), Le(10_000), "Most WebSocket sessions at a time; further ones get 503."] = 64
    stream_seconds: Annotated[float, Gt(0), Le(7 * 86_400), "Longest audio of a session (s)."] = 3600.0
    idle_seconds: Annotated[
        float,
        Gt(0),
        Le(86_400),
        "Longest time (s) that a session waits for a message, or for its client to read one.",
    ] = 30.0
    stop_seconds: Annotated[
        float, Ge(0), Le(3600), "Longest time (s) after SIGTERM or Ctrl-C to answer requests that were admitted."
    ] = 20.0

    def __post_init__(self):
        """Checks rules between fields."""
        if not self.host or self.host != self.host.strip():
            raise ConfigError(f"ServeConfig.host must be an address, got {self.host!r}")

    @property
    def num_decoders(self) -> int:
        """Number of processes that decode audio."""
        return self.decoders or min(_cores(), 4)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option per field of `ServeConfig`."""
    defaults = {field.name: field.default for field in dataclasses.fields(ServeConfig)}
    for name, hint in fields_of(ServeConfig).items():
        kind, *extras = typing.get_args(hint)
        text = next(extra for extra in extras if isinstance(extra, str))
        metavar = {int: "N", float: "S", str: "TEXT"}[kind]
        parser.add_argument(
            option(name), type=kind, default=defaults[name], metavar=metavar, help=f"{text} (default: {defaults[name]})"
        )


def parse_options(options: argparse.Namespace) -> ServeConfig:
    """Settings from parsed options.

    Raises:
      ConfigError: a value is out of bounds; the message names the option.
    """
    values: dict[str, Any] = {name: getattr(options, name) for name in fields_of(ServeConfig)}
    try:
        return ServeConfig(**values)
    except ConfigError as error:
        name, _, rest = str(error).removeprefix("ServeConfig.").partition(" ")
        raise ConfigError(f"{option(name)} {rest}") from None


def option(name: str) -> str:
    """Option of a field."""
    return f"--{name.replace('_', '-')}"


def markdown_table() -> str:
    """Table of the options for docs/serve.md."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(ServeConfig):
        _, *extras = typing.get_args(fields_of(ServeConfig)[field.name])
        text = next(extra for extra in extras if isinstance(extra, str))
        bounds = describe_bounds(extras).removeprefix("be ")
        rows.append(f"| `{option(field.name)}` | {field.default} | {text}{f' Must be {bounds}.' if bounds else ''} |")
    return "\n".join(rows)
