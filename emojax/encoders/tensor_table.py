"""Tables from published tensor names to parameter paths with a transform each; loading and export by them."""

import dataclasses
import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from emojax.encoders.weight_files import StoredTensor
from emojax.errors import CheckpointError

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A two-way change of layout.

    Attributes:
      load: published tensor(s) -> parameter; a view where possible, so that nothing is copied twice.
      export: parameter -> published tensor(s), in the order `load` takes them.
      source_shapes: shape of the parameter -> shape(s) of the published tensor(s).
    """

    load: Callable[..., np.ndarray]
    export: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    source_shapes: Callable[[Shape], tuple[Shape, ...]]


def _reversed(array: np.ndarray) -> np.ndarray:
    return array.transpose()


def _fold_weight_norm(gain: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Weight norm with one gain per kernel tap (`dim=2` in PyTorch): `g v / |v|`, the norm over both channel axes."""
    direction = direction.astype(np.float32)
    norm = np.sqrt(np.sum(np.square(direction), axis=(0, 1), keepdims=True))
    return (direction * (gain.astype(np.float32) / norm)).transpose()


def _unfold_weight_norm(kernel: np.ndarray) -> tuple[np.ndarray, ...]:
    direction = kernel.transpose()
    return np.sqrt(np.sum(np.square(direction), axis=(0, 1), keepdims=True)), direction


TRANSFORMS = {
    "same": Transform(lambda x: x, lambda x: (x,), lambda shape: (shape,)),
    # Linear: (out, in) <-> (in, out).
    "linear": Transform(_reversed, lambda x: (_reversed(x),), lambda shape: (shape[::-1],)),
    # Conv1d: (out, in / groups, taps) <-> (taps, in / groups, out).
    "conv1d": Transform(_reversed, lambda x: (_reversed(x),), lambda shape: (shape[::-1],)),
    # Conv1d under weight norm over axes 0 and 1: gain (1, 1, taps) and direction (out, in / groups, taps).
    "weight_norm_conv1d": Transform(
        _fold_weight_norm, _unfold_weight_norm, lambda shape: ((1, 1, shape[0]), shape[::-1])
    ),
}


_LISTED = 8

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""Types of tensors that can be parameters."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of a table: published tensor(s) <-> one parameter.

    `{layer}`, or any other name in braces, stands for a decimal number and must occur on both sides. On the parameter's
    side `layers[{layer}]` means row `layer` of a parameter stacked over layers, `layer_{layer}` a parameter of its own.

    Attributes:
      names: published name after the table's renames; several where one parameter is made from several tensors.
      path: parameter path, parts joined by `/`.
      transform: key of `TRANSFORMS`.
    """

    names: str | tuple[str, ...]
    path: str
    transform: str = "same"

    @functools.cached_property
    def sources(self) -> tuple[str, ...]:
        """Published names as a tuple."""
        return (self.names,) if isinstance(self.names, str) else self.names

    @functools.cached_property
    def leaf(self) -> str:
        """`path` without the row of a stacked parameter."""
        return re.sub(r"\[\{\w+\}\]", "", self.path)

    @functools.cached_property
    def row(self) -> str | None:
        """Name of the placeholder that picks the row of a stacked parameter."""
        found = re.search(r"\[\{(\w+)\}\]", self.path)
        return found.group(1) if found else None


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Published tensors the encoder does not need: a regular expression on the whole renamed name, and why."""

    pattern: str
    reason: str


@dataclasses.dataclass(frozen=True)
class TensorTable:
    """Published names of one family's tensors and the parameters they become.

    Attributes:
      renames: (regular expression, replacement) applied to published names in this order, e.g. dropping a prefix.
      rules: where several rules have one path (older namings), the first is used for export.
      ignored: tensors that the encoder does not need.
    """

    renames: tuple[tuple[str, str], ...]
    rules: tuple[Rule, ...]
    ignored: tuple[Ignored, ...] = ()

    def rename(self, name: str) -> str:
        """Applies `renames`: the result is what rules and ignored patterns match."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


def dense_rules(name: str, path: str) -> tuple[Rule, Rule]:
    """Makes the rules of a dense layer: weight and bias of the module `name` -> kernel and bias at `path`."""
    return Rule(f"{name}.weight", f"{path}/kernel", "linear"), Rule(f"{name}.bias", f"{path}/bias")


def norm_rules(name: str, path: str) -> tuple[Rule, Rule]:
    """Makes the rules of a layer norm: weight and bias of the module `name` -> scale and bias at `path`."""
    return Rule(f"{name}.weight", f"{path}/scale"), Rule(f"{name}.bias", f"{path}/bias")


def layer_rules(
    published: str, path: str, dense: Sequence[tuple[str, str]], norms: Sequence[tuple[str, str]]
) -> tuple[Rule, ...]:
    """Makes the rules of the dense layers and layer norms of every transformer layer.

    Args:
      published: published name of a layer, with `{layer}`.
      path: parameter path of a layer, with `{layer}`.
      dense: published name and path of each dense layer, within a layer.
      norms: published name and path of each layer norm, within a layer.
    """
    rules = [dense_rules(f"{published}.{name}", f"{path}/{own}") for name, own in dense]
    rules += [norm_rules(f"{published}.{name}", f"{path}/{own}") for name, own in norms]
    return tuple(itertools.chain.from_iterable(rules))


@dataclasses.dataclass(frozen=True)
class _Slot:
    """One parameter, or one row of a stacked parameter."""

    leaf: str
    row: int | None = None


@dataclasses.dataclass(frozen=True)
class _Fill:
    """Rule and stored tensors that one slot is made from."""

    rule: Rule
    names: tuple[str, ...]


def convert(
    stored: Mapping[str, StoredTensor],
    table: TensorTable,
    expected: Mapping[str, Any],
    to_device: Callable[[str, np.ndarray], jax.Array] | None = None,
    label: str = "checkpoint",
) -> dict[str, Any]:
    """Makes parameters from stored tensors, one at a time, after all names, shapes and types have been checked.

    Args:
      stored: published name -> tensor.
      table: the family's table.
      expected: nested tree of shape-and-dtype leaves, as `jax.eval_shape` of the module's `init` gives it.
      to_device: (path, values) -> array on its device(s); default: JAX's default device.
      label: name of the checkpoint in error messages.

    Raises:
      CheckpointError: a tensor is missing, unexpected, of another shape or no floating-point tensor; all are listed.
    """
    wanted = {path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(expected, sep="/").items()}
    types = {path: leaf.dtype for path, leaf in flax.traverse_util.flatten_dict(expected, sep="/").items()}
    fills = _plan(stored, table, wanted, label)
    put = to_device or (lambda _, array: jax.device_put(array))
    params: dict[str, jax.Array] = {}
    for leaf, shape in wanted.items():
        if _Slot(leaf) in fills:
            values = _read(fills[_Slot(leaf)], stored)
            params[leaf] = put(leaf, np.asarray(values, types[leaf]))
            del values
        else:
            rows = np.empty(shape, types[leaf])
            for row in range(shape[0]):
                rows[row] = _read(fills[_Slot(leaf, row)], stored)
            params[leaf] = put(leaf, rows)
            del rows
        # The host array may only go once the device has it; otherwise several would be alive at a time.
        jax.block_until_ready(params[leaf])
    return flax.traverse_util.unflatten_dict(params, sep="/")


def invert(params: Mapping[str, Any], table: TensorTable) -> Iterator[tuple[str, np.ndarray]]:
    """Makes published names and tensors from `params`, one at a time; the inverse of `convert`."""
    for leaf, values in flax.traverse_util.flatten_dict(params, sep="/").items():
        rule, numbers = _rule_of(leaf, table)
        array = np.asarray(values)
        rows = [(numbers, array)]
        if rule.row is not None:
            rows = [({**numbers, rule.row: str(row)}, array[row]) for row in range(len(array))]
        for filled, row_values in rows:
            tensors = TRANSFORMS[rule.transform].export(row_values)
            for source, tensor in zip(rule.sources, tensors, strict=True):
                yield source.format(**filled), tensor


def renamed_names(stored: Mapping[str, StoredTensor], table: TensorTable) -> frozenset[str]:
    """Applies the table's renames to the names of a checkpoint."""
    return frozenset(table.rename(name) for name in stored)


def check_layers(names: frozenset[str], table: TensorTable, num_layers: int, label: str) -> None:
    """Checks the number of stored transformer layers, before a module with so many is built.

    Args:
      names: from `renamed_names`.
      table: the family's table, whose rules number layers by `{layer}`.
      num_layers: number in `config.json`.
      label: name of the checkpoint in error messages.

    Raises:
      CheckpointError: there are fewer.
    """
    patterns = [_regex(source) for rule in table.rules for source in rule.sources if "{layer}" in source]
    found = {match["layer"] for name in names for pattern in patterns if (match := pattern.fullmatch(name))}
    if len(found) < num_layers:
        raise CheckpointError(
            f"{label}: tensors do not fit config.json, which has {num_layers} transformer layers, "
            f"stored are {len(found)}"
        )


def first_layers(stored: Mapping[str, StoredTensor], table: TensorTable, count: int) -> dict[str, StoredTensor]:
    """Selects the tensors of a checkpoint without those of transformer layers `count` and above."""
    patterns = [_regex(source) for rule in table.rules for source in rule.sources if "{layer}" in source]

    def is_kept(name: str) -> bool:
        matches = (pattern.fullmatch(table.rename(name)) for pattern in patterns)
        return all(int(match["layer"]) < count for match in matches if match)

    return {name: tensor for name, tensor in stored.items() if is_kept(name)}


def _plan(
    stored: Mapping[str, StoredTensor], table: TensorTable, wanted: Mapping[str, Shape], label: str
) -> dict[_Slot, _Fill]:
    found, unexpected, problems = _match(stored, table, wanted)
    missing: list[str] = []
    fills: dict[_Slot, _Fill] = {}
    for slot in _slots(table, wanted):
        candidates = found.pop(slot, {})
        complete = [rule for rule, names in candidates.items() if len(names) == len(rule.sources)]
        if len(candidates) > 1:
            tensors = sorted(name for names in candidates.values() for name in names.values())
            problems.append(f"{', '.join(tensors)} are the same parameter twice")
        elif not complete:
            missing += _absent_names(slot, table, candidates)
        else:
            rule = complete[0]
            fills[slot] = _Fill(rule, tuple(candidates[rule][part] for part in range(len(rule.sources))))
            problems += _misfits(fills[slot], stored, wanted[slot.leaf], slot.row is not None)
    unexpected += [name for rules in found.values() for names in rules.values() for name in names.values()]
    if missing:
        problems.append(f"missing: {_listing(missing)}")
    if unexpected:
        problems.append(f"unexpected: {_listing(sorted(unexpected))}")
    if problems:
        raise CheckpointError(f"{label}: tensors do not fit config.json: {'; '.join(problems)}")
    return fills


def _match(
    stored: Mapping[str, StoredTensor], table: TensorTable, wanted: Mapping[str, Shape]
) -> tuple[dict[_Slot, dict[Rule, dict[int, str]]], list[str], list[str]]:
    """Slot -> rule -> part -> published name; names that no rule matches; names given twice."""
    found: dict[_Slot, dict[Rule, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    unexpected, twice = [], []
    for name in stored:
        renamed = table.rename(name)
        matches = [
            (rule, part, match.groupdict())
            for rule in table.rules
            for part, source in enumerate(rule.sources)
            if (match := _regex(source).fullmatch(renamed))
        ]
        ignored = any(re.fullmatch(ignored.pattern, renamed) for ignored in table.ignored)
        if len(matches) + ignored > 1:
            raise ValueError(f"several rows of the tensor table match {renamed}")
        if ignored:
            continue
        if not matches:
            unexpected.append(name)
            continue
        rule, part, numbers = matches[0]
        slot = _Slot(rule.leaf.format(**numbers), None if rule.row is None else int(numbers[rule.row]))
        if slot.leaf not in wanted:
            unexpected.append(name)
        elif part in found[slot][rule]:
            twice.append(f"{found[slot][rule][part]}, {name} are the same parameter twice")
        else:
            found[slot][rule][part] = name
    return found, unexpected, twice


def _slots(table: TensorTable, wanted: Mapping[str, Shape]) -> Iterator[_Slot]:
    for leaf, shape in wanted.items():
        rule, _ = _rule_of(leaf, table)
        if rule.row is None:
            yield _Slot(leaf)
        else:
            yield from (_Slot(leaf, row) for row in range(shape[0]))


def _rule_of(leaf: str, table: TensorTable) -> tuple[Rule, dict[str, str]]:
    for rule in table.rules:
        if match := _regex(rule.leaf).fullmatch(leaf):
            return rule, match.groupdict()
    raise ValueError(f"the tensor table has no rule for the parameter {leaf}")


def _absent_names(slot: _Slot, table: TensorTable, candidates: Mapping[Rule, Mapping[int, str]]) -> list[str]:
    rule, numbers = _rule_of(slot.leaf, table)
    present: Mapping[int, str] = {}
    if candidates:
        rule, present = next(iter(candidates.items()))
    if rule.row is not None:
        numbers = {**numbers, rule.row: str(slot.row)}
    return [source.format(**numbers) for part, source in enumerate(rule.sources) if part not in present]


def _misfits(fill: _Fill, stored: Mapping[str, StoredTensor], shape: Shape, stacked: bool) -> list[str]:
    shapes = TRANSFORMS[fill.rule.transform].source_shapes(shape[1:] if stacked else shape)
    problems = []
    for name, wanted in zip(fill.names, shapes, strict=True):
        tensor = stored[name]
        if tuple(tensor.shape) != tuple(wanted):
            problems.append(f"{name} has shape {tuple(tensor.shape)}, config.json implies {tuple(wanted)}")
        if tensor.dtype.name not in FLOATS:
            problems.append(f"{name} must be {', '.join(FLOATS[:-1])} or {FLOATS[-1]}, is {tensor.dtype.name}")
    return problems


def _read(fill: _Fill, stored: Mapping[str, StoredTensor]) -> np.ndarray:
    return TRANSFORMS[fill.rule.transform].load(*(stored[name].read() for name in fill.names))


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


@functools.lru_cache(maxsize=4096)
def _regex(template: str) -> re.Pattern[str]:
    """`a.{layer}.b` as a regular expression in which `{layer}` is a decimal number without leading zeros."""
    parts = re.split(r"\{(\w+)\}", template)
    literal = [re.escape(part) if i % 2 == 0 else rf"(?P<{part}>0|[1-9]\d*)" for i, part in enumerate(parts)]
    return re.compile("".join(literal))
