"""Settings: frozen dataclasses whose fields declare type, bounds, documentation and default, with one validator.

    @settings
    class OptimizerConfig:
        learning_rate: Annotated[float, Gt(0), "Peak learning rate of AdamW."] = 1e-3

`parse` converts plain trees (a config, a JSON file of a workdir, the config of a published checkpoint) to settings;
objects constructed in Python are validated by the same code.
"""

import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from annotated_types import Ge as Ge
from annotated_types import Gt as Gt
from annotated_types import Le as Le
from annotated_types import Lt as Lt
from annotated_types import MaxLen as MaxLen
from annotated_types import MinLen as MinLen

from emojax.errors import ConfigError, EmojaxError
from emojax.files import read_json

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """Makes a class a frozen dataclass whose constructor validates type and bounds of every field.

    Fields are int, float, str, bool, Literal, tuple, Mapping, `X | None`, settings, or `Annotated` with any of these,
    bounds (`Ge`, `Gt`, `Le`, `Lt`, `MinLen`, `MaxLen`) and one string, the documentation. A `__post_init__` of the
    class, and those of the settings it extends, run afterwards and check rules between fields.
    """
    own = cls.__dict__.get("__post_init__")
    rules = (*getattr(cls, "_rules", ()), *([own] if own else []))

    def __post_init__(self: Any) -> None:
        for name, hint in fields_of(type(self)).items():  # type: ignore[arg-type]
            given = getattr(self, name)
            checked = _convert(hint, given, f"{type(self).__name__}.{name}", "raise")
            if checked is not given:
                object.__setattr__(self, name, checked)
        for rule in rules:
            rule(self)

    cls._rules = rules  # type: ignore[attr-defined]
    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True)(cls)


def parse(
    cls: type[T],
    tree: Any,
    path: str = "config",
    *,
    error: type[EmojaxError] = ConfigError,
    unknown: Literal["raise", "ignore"] = "raise",
    missing: Literal["raise", "default"] = "raise",
) -> T:
    """Converts a plain tree (ConfigDict, JSON) to settings.

    Args:
      cls: class made by `settings`.
      tree: nested mapping.
      path: prefix of keys in error messages: `config`, or a file's path.
      error: class of the error raised.
      unknown: treatment of keys that `cls` does not have, at any depth.
      missing: treatment of absent keys; fields without a default are always required.

    Raises:
      EmojaxError: of class `error`: one line with the key, the constraint and the value.
    """
    try:
        return _build(cls, tree, path, unknown, missing)
    except RecursionError:
        raise error(f"{path}: is nested too deeply") from None
    except ConfigError as problem:
        if error is ConfigError:
            raise
        raise error(str(problem)) from None


def read_settings(
    cls: type[T],
    path: Path,
    *,
    error: type[EmojaxError],
    unknown: Literal["raise", "ignore"] = "raise",
    missing: Literal["raise", "default"] = "raise",
) -> T:
    """Reads a JSON file as settings; arguments as for `parse`.

    Raises:
      EmojaxError: of class `error`, naming the file and the key.
    """
    return parse(cls, read_json(path, error), str(path), error=error, unknown=unknown, missing=missing)


def to_tree(config: Any) -> dict[str, Any]:
    """Converts settings to nested dicts and lists for JSON; the inverse of `parse`."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def default_tree(cls: Any) -> dict[str, Any]:
    """Returns the defaults of a settings class as nested dicts; tuples stay tuples."""
    tree = {}
    for field in dataclasses.fields(cls):
        hint = fields_of(cls)[field.name]
        if field.default is not dataclasses.MISSING:
            tree[field.name] = dataclasses.asdict(field.default) if dataclasses.is_dataclass(hint) else field.default
        elif dataclasses.is_dataclass(hint):
            tree[field.name] = default_tree(hint)
    return tree


@functools.cache
def fields_of(cls: Any) -> dict[str, Any]:
    """Returns the type hints of a dataclass's fields by name, with bounds and documentation."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _build(cls: type[T], tree: Any, path: str, unknown: str, missing: str) -> T:
    if isinstance(tree, cls):
        return tree
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path} must be a group of fields, got {_format_value(tree)}")
    hints = fields_of(cls)  # type: ignore[arg-type]
    strange = [key for key in tree if key not in hints]
    if strange and unknown == "raise":
        raise ConfigError(f"{path}.{strange[0]}: no such field{_suggestion(str(strange[0]), list(hints))}")
    absent = [field.name for field in dataclasses.fields(cls) if field.init and field.name not in tree]  # type: ignore[arg-type]
    required = absent if missing == "raise" else [name for name in absent if not _has_default(cls, name)]
    if required:
        raise ConfigError(f"{path}.{required[0]} is missing")
    values = {
        name: _convert(hint, tree[name], f"{path}.{name}", unknown, missing)
        for name, hint in hints.items()
        if name in tree
    }
    try:
        return cls(**values)
    except ConfigError as problem:
        raise ConfigError(_with_prefix(str(problem), path)) from None


def _has_default(cls: type, name: str) -> bool:
    field = next(field for field in dataclasses.fields(cls) if field.name == name)
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _with_prefix(message: str, path: str) -> str:
    """Prepends the path to a message of a rule between fields, which names fields relative to its class."""
    if message.startswith(path):
        return message
    parent, _, name = path.rpartition(".")
    if message.startswith(f"{name}."):
        return f"{parent}.{message}"
    return f"{path}.{message}"


def _convert(hint: Any, value: Any, path: str, unknown: str, missing: str = "raise") -> Any:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *extras = typing.get_args(hint)
        converted = _convert(inner, value, path, unknown, missing)
        _check_bounds(extras, converted, path)
        return converted
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, path, unknown, missing)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, path, unknown, missing)
    if origin is tuple:
        return _convert_tuple(hint, value, path, unknown, missing)
    if origin is Literal:
        return _convert_choice(hint, value, path)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _convert_mapping(hint, value, path, unknown, missing)
    if hint is Any:
        return value
    return _convert_plain(hint, value, path)


def _convert_plain(hint: Any, value: Any, path: str) -> Any:
    if hint in (int, float) and not isinstance(value, bool):
        if hint is int and isinstance(value, numbers.Integral):
            return value if type(value) is int else int(value)
        if hint is float and isinstance(value, numbers.Real):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number):
                raise ConfigError(f"{path} must be a finite number, got {_format_value(value)}")
            return value if type(value) is float else number
    elif hint not in (int, float) and isinstance(value, hint):
        if hint is str:
            _check_text(value, path)
        return value
    raise ConfigError(f"{path} must be {describe_type(hint)}, got {_format_value(value)}")


def _check_text(value: str, path: str) -> None:
    """Rejects characters that JSON can hold but file names, tables and terminals cannot."""
    if "\0" in value or (not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)):
        raise ConfigError(f"{path} must be text without NUL and lone surrogates, got {_format_value(value)}")


def _convert_choice(hint: Any, value: Any, path: str) -> Any:
    allowed = typing.get_args(hint)
    # bool is a subclass of int: without comparing types, True would equal 1
    if any(type(value) is type(choice) and value == choice for choice in allowed):
        return value
    close = difflib.get_close_matches(value, map(str, allowed), n=1) if isinstance(value, str) else []
    hint_text = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"{path} must be {describe_type(hint)}, got {_format_value(value)}{hint_text}")


def _convert_union(hint: Any, value: Any, path: str, unknown: str, missing: str) -> Any:
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if value is None and len(options) < len(typing.get_args(hint)):
        return None
    if len(options) == 1:
        return _convert(options[0], value, path, unknown, missing)
    for option in options:
        try:
            return _convert(option, value, path, unknown, missing)
        except ConfigError:
            continue
    raise ConfigError(f"{path} must be {describe_type(hint)}, got {_format_value(value)}")


def _convert_tuple(hint: Any, value: Any, path: str, unknown: str, missing: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise ConfigError(f"{path} must be {describe_type(hint)}, got {_format_value(value)}")
    items = typing.get_args(hint)
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise ConfigError(f"{path} must have {len(items)} values, got {len(value)}")
    pairs = enumerate(zip(items, value, strict=True))
    converted = tuple(_convert(option, item, f"{path}[{i}]", unknown, missing) for i, (option, item) in pairs)
    if isinstance(value, tuple) and all(new is old for new, old in zip(converted, value, strict=True)):
        return value
    return converted


def _convert_mapping(hint: Any, value: Any, path: str, unknown: str, missing: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} must be {describe_type(hint)}, got {_format_value(value)}")
    keys, values = typing.get_args(hint) or (str, Any)
    return {
        _convert(keys, key, f"{path}, key", unknown, missing): _convert(values, item, f"{path}.{key}", unknown, missing)
        for key, item in value.items()
    }


def _check_bounds(extras: list[Any], value: Any, path: str) -> None:
    if value is None:
        return
    for bound in extras:
        within = {
            Ge: lambda b: value >= b.ge,
            Gt: lambda b: value > b.gt,
            Le: lambda b: value <= b.le,
            Lt: lambda b: value < b.lt,
            MinLen: lambda b: len(value) >= b.min_length,
            MaxLen: lambda b: len(value) <= b.max_length,
        }.get(type(bound), lambda b: True)(bound)
        if not within:
            raise ConfigError(f"{path} must {describe_bounds(extras)}, got {_format_value(value)}")


def describe_bounds(extras: typing.Iterable[Any]) -> str:
    """Formats bounds for an error message: `be >= 0 and < 1`; "" without bounds."""
    limits, lengths = [], []
    for bound in extras:
        match bound:
            case Ge():
                limits.append(f">= {bound.ge}")
            case Gt():
                limits.append(f"> {bound.gt}")
            case Le():
                limits.append(f"<= {bound.le}")
            case Lt():
                limits.append(f"< {bound.lt}")
            case MinLen():
                lengths.append("not be empty" if bound.min_length == 1 else f"have at least {bound.min_length} entries")
            case MaxLen():
                lengths.append(f"have at most {bound.max_length} entries")
    sizes = {b.min_length if isinstance(b, MinLen) else b.max_length for b in extras if isinstance(b, MinLen | MaxLen)}
    if len(lengths) == 2 and len(sizes) == 1:
        lengths = [f"have {sizes.pop()} entries"]
    return " and ".join(([f"be {' and '.join(limits)}"] if limits else []) + lengths)


def describe_type(hint: Any) -> str:
    """Formats the type of a field for an error message."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return describe_type(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join("None" if o is type(None) else describe_type(o) for o in typing.get_args(hint))
    if origin is tuple:
        items = typing.get_args(hint)
        if len(items) == 2 and items[1] is Ellipsis:
            return f"a list, each {describe_type(items[0])}"
        return f"a list of {len(items)}: " + ", ".join(map(describe_type, items))
    if origin is Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a group"
    names = {int: "an integer", float: "a number", str: "text", bool: "True or False"}
    return "a group" if dataclasses.is_dataclass(hint) else names.get(hint) or str(hint)


def _suggestion(key: str, names: list[str]) -> str:
    close = difflib.get_close_matches(key, names, n=1)
    allowed = f"allowed: {', '.join(names)}"
    return f"; did you mean {close[0]!r}? {allowed}" if close else f"; {allowed}"


def _format_value(value: Any) -> str:
    """Formats a value for an error message, truncated to 100 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; an integer of more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."
