"""Turns a plain tree (ConfigDict, JSON) into frozen dataclasses, strictly: every key, type and value is checked."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from emojax.errors import ConfigError

T = TypeVar("T")


def parse(cls: type[T], tree: Mapping[str, Any], path: str = "config") -> T:
    """Builds `cls` from `tree`.

    Args:
      cls: a dataclass; its fields are int, float, str, bool, Literal, tuple, `X | None` or dataclasses of these.
      tree: nested mapping with exactly the fields of `cls`.
      path: how the user knows this part of the tree, for messages.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: expected a group of settings, found {tree!r}")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = [key for key in tree if key not in names]
    if unknown:
        raise ConfigError(f"{path}.{unknown[0]}: no such setting{_suggest(unknown[0], names)}")
    missing = [name for name in names if name not in tree]
    if missing:
        raise ConfigError(f"{path}.{missing[0]}: missing; every setting must be given (see configs/default.py)")
    values = {name: _convert(hints[name], tree[name], f"{path}.{name}") for name in names}
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(_rooted(str(error), path)) from None


def to_tree(config: Any) -> dict[str, Any]:
    """The inverse of `parse`: nested dicts and lists that JSON can hold."""
    tree = dataclasses.asdict(config)
    return {key: _plain(value) for key, value in tree.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _rooted(message: str, path: str) -> str:
    """Puts the user's path before a message that a dataclass raised under its own short name."""
    if message.startswith("config"):
        return message
    parent, _, name = path.rpartition(".")
    if message.startswith(f"{name}."):
        return f"{parent}.{message}"
    return f"{path}.{message}"


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return parse(typing.cast(type, hint), value, path)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, path)
    if origin is tuple:
        return _convert_tuple(hint, value, path)
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise ConfigError(f"{path}: {value!r} is not allowed; allowed: {', '.join(map(repr, allowed))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{path}: {value!r} has the wrong type; allowed: {_describe(hint)}")


def _convert_union(hint: Any, value: Any, path: str) -> Any:
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if value is None:
        if len(options) == len(typing.get_args(hint)):
            raise ConfigError(f"{path}: None is not allowed; allowed: {_describe(hint)}")
        return None
    if len(options) == 1:
        return _convert(options[0], value, path)
    for option in options:
        try:
            return _convert(option, value, path)
        except ConfigError:
            continue
    raise ConfigError(f"{path}: {value!r} has the wrong type; allowed: {_describe(hint)}")


def _convert_tuple(hint: Any, value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise ConfigError(f"{path}: {value!r} has the wrong type; allowed: {_describe(hint)}")
    items = typing.get_args(hint)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_convert(items[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if len(items) != len(value):
        raise ConfigError(f"{path}: {len(value)} values given; allowed: exactly {len(items)}")
    return tuple(
        _convert(option, item, f"{path}[{i}]") for i, (option, item) in enumerate(zip(items, value, strict=True))
    )


def _describe(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("None" if o is type(None) else _describe(o) for o in typing.get_args(hint))
    if origin is tuple:
        items = typing.get_args(hint)
        if len(items) == 2 and items[1] is Ellipsis:
            return f"a list, each {_describe(items[0])}"
        return f"a list of {len(items)}: " + ", ".join(map(_describe, items))
    if origin is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return {int: "an integer", float: "a number", str: "a text", bool: "True or False"}.get(hint, str(hint))


def _suggest(key: str, names: list[str]) -> str:
    close = difflib.get_close_matches(key, names, n=1)
    allowed = f"allowed: {', '.join(names)}"
    return f"; did you mean {close[0]!r}? {allowed}" if close else f"; {allowed}"
