"""The device mesh and how arrays are laid out over it."""

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emojax.errors import ConfigError
from emojax.parallel.host import check_not_forked
from emojax.schema import Ge, Le, settings

BATCH_AXES = ("data", "fsdp")
"""Mesh axes the batch dimension is divided over."""

MESH_AXES = (*BATCH_AXES, "tensor")
"""All mesh axes; devices next to each other along the last are closest to each other."""


@settings
class MeshConfig:
    """Devices along each axis of the mesh; -1, for one axis: all the rest."""

    data: Annotated[int, Ge(-1), Le(10**6), "Devices that batches are divided over."] = -1
    fsdp: Annotated[
        int, Ge(-1), Le(10**6), "Devices that batches, parameters and optimizer state are divided over."
    ] = 1
    tensor: Annotated[
        int,
        Ge(-1),
        Le(10**6),
        "Devices that attention heads and feed-forward units of encoders are divided over; each computes the same "
        "rows.",
    ] = 1

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        for axis in MESH_AXES:
            if getattr(self, axis) == 0:
                raise ConfigError(f"mesh.{axis} must be >= 1, or -1 for the rest, got 0")
        open_axes = [axis for axis in MESH_AXES if getattr(self, axis) == -1]
        if len(open_axes) > 1:
            raise ConfigError(f"mesh.{open_axes[-1]} must be >= 1: only one axis can be -1 (the rest of the devices)")


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """Arranges all devices (or the given ones) in a mesh with axes data, fsdp, tensor.

    Raises:
      ConfigError: the axes do not multiply to the number of devices.
      EmojaxError: JAX cannot compute in this process (`check_not_forked`).
    """
    check_not_forked()
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(config, axis) for axis in MESH_AXES]
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(len(devices) // math.prod(size for size in sizes if size != -1), 1)
    if math.prod(sizes) != len(devices):
        product = " x ".join(map(str, sizes))
        raise ConfigError(f"mesh: {' x '.join(MESH_AXES)} = {product} does not make the {len(devices)} devices")
    return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes), devices=devices)


RULES = {"embed": "fsdp", "conv": "fsdp", "heads": "tensor", "mlp": "tensor", "vocab": "tensor"}
"""Logical axis of a parameter (`emojax.encoders.parameters`) -> mesh axis it is divided over.

Over `tensor`, each device has some of the attention heads and of the feed-forward units (Shoeybi et al. 2019); over
`fsdp`, a part of every parameter, which is gathered when its layer is computed (Rajbhandari et al. 2020)."""

AxesOf = Callable[[str, int], tuple[str | None, ...] | None]
"""From a parameter's path and number of dimensions to the names of its axes, None where they have none."""


def no_names(path: str, ndim: int) -> None:
    """`AxesOf` of a model whose parameters have no named axes."""
    return


def leaf_sharding(leaf: Any, mesh: Mesh, names: tuple[str | None, ...] | None = None) -> NamedSharding:
    """Sharding of one array: named axes by `RULES` where they divide evenly, then the largest axis left over `fsdp`.

    Args:
      leaf: array or `jax.ShapeDtypeStruct`.
      mesh: from `make_mesh`.
      names: logical names of its axes, if it has any.
    """
    spec: list[str | None] = [None] * len(leaf.shape)
    named = names or (None,) * len(leaf.shape)

    def place(dimension: int, axis: str) -> None:
        size = mesh.shape[axis]
        if size > 1 and axis not in spec and leaf.shape[dimension] and leaf.shape[dimension] % size == 0:
            spec[dimension] = axis

    for dimension, name in enumerate(named):
        if name in RULES:
            place(dimension, RULES[name])
    for dimension in sorted(range(len(spec)), key=lambda number: -leaf.shape[number]):
        if spec[dimension] is None and named[dimension] != "layers":  # a stack of layers is gathered layer by layer
            place(dimension, "fsdp")
    return NamedSharding(mesh, PartitionSpec(*spec) if any(spec) else PartitionSpec())


def placed(mesh: Mesh) -> Callable[[np.ndarray, tuple[str | None, ...]], jax.Array]:
    """From values that every host has, and names of their axes, to an array of which each device holds its part."""
    return lambda values, names: to_device(values, leaf_sharding(values, mesh, names))


def to_device(values: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array from values that every host has."""
    values = np.asarray(values)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def state_sharding(abstract_state: Any, mesh: Mesh, axes: AxesOf = no_names) -> Any:
    """Shardings of a tree of parameters, of an optimizer's state, or of anything that holds them under their paths.

    Args:
      abstract_state: tree of arrays or `jax.ShapeDtypeStruct`s.
      mesh: from `make_mesh`.
      axes: names of the axes.

    Returns:
      The same tree with a `NamedSharding` per leaf.
    """

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        keys = "/".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
        return leaf_sharding(leaf, mesh, axes(keys, len(leaf.shape)))

    return jax.tree.map_with_path(sharding, abstract_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the batch axes, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def on_mesh(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The function, traced so that `constrain_batch` knows the mesh."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return call


def constrain_batch(rows: jax.Array) -> jax.Array:
    """Says that an array's first axis is divided like a batch, and its gradient's too; nothing outside of `on_mesh`.

    Without it, the partitioner may divide activations like the parameters they meet, along their features, and then
    exchanges activations, which are many, in place of parameters, which are few.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.shape.get("fsdp", 1) == 1:
        return rows  # parameters are whole along their features, so there is nothing to confuse
    if rows.shape[0] % math.prod(mesh.shape[axis] for axis in BATCH_AXES):
        return rows
    free = [PartitionSpec.UNCONSTRAINED] * (rows.ndim - 1)
    return jax.lax.with_sharding_constraint(rows, PartitionSpec(BATCH_AXES, *free))


def constrain_replicated(parameter: jax.Array) -> jax.Array:
    """Says that a parameter is whole on every device while it is used; nothing outside of `on_mesh`."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.shape.get("fsdp", 1) == 1:
        return parameter
    return jax.lax.with_sharding_constraint(parameter, PartitionSpec())


def num_batch_shards(mesh: Mesh) -> int:
    """Number of parts a batch is divided into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def host_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Numbers of the rows of a batch that this process must load, ascending.

    Raises:
      ConfigError: the batch does not divide over the mesh.
    """
    if batch_size % num_batch_shards(mesh):
        raise ConfigError(
            f"data.batch_size: {batch_size} must be a multiple of the {num_batch_shards(mesh)} batch shards"
        )
    mine = jax.process_index()
    parts = batch_sharding(mesh).devices_indices_map((batch_size,))
    held = {rows.indices(batch_size) for device, (rows,) in parts.items() if device.process_index == mine}  # type: ignore[attr-defined]
    return np.unique(np.concatenate([np.arange(*bounds) for bounds in held]))


def to_global_arrays(tree: Any, mesh: Mesh) -> Any:
    """Makes each host's rows (NumPy arrays, `host_rows`) one global array, rows divided over the batch axes."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), tree)


def to_host(tree: Any) -> Any:
    """Brings global arrays whole to every host as NumPy arrays."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))
