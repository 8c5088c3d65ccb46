"""Device mesh, and shardings of parameters and batches over it."""

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emojax.errors import ConfigError
from emojax.parallel.host import check_not_forked
from emojax.schema import Ge, Le, settings

BATCH_AXES = ("dcn", "data", "fsdp")
"""Mesh axes that the batch dimension is sharded over."""

MESH_AXES = (*BATCH_AXES, "tensor")
"""All mesh axes; neighbours along the last axis have the fastest interconnect."""


@settings
class MeshConfig:
    """Number of devices along each mesh axis; -1, for one axis: all remaining devices."""

    data: Annotated[int, Ge(-1), Le(10**6), "Devices that batches are sharded over."] = -1
    fsdp: Annotated[
        int, Ge(-1), Le(10**6), "Devices that batches, parameters and optimizer state are sharded over."
    ] = 1
    tensor: Annotated[
        int,
        Ge(-1),
        Le(10**6),
        "Devices that attention heads and feed-forward units of encoders are sharded over; each computes the same "
        "rows.",
    ] = 1
    dcn: Annotated[
        int,
        Ge(-1),
        Le(10**6),
        "Groups of devices that only the network of the data centre connects (slices of TPUs, hosts), over which "
        "batches are sharded; the other axes lie within a group.",
    ] = 1

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        for axis in MESH_AXES:
            if getattr(self, axis) == 0:
                raise ConfigError(f"mesh.{axis} must be >= 1, or -1 for the remaining devices, got 0")
        open_axes = [axis for axis in MESH_AXES if getattr(self, axis) == -1]
        if len(open_axes) > 1:
            raise ConfigError(f"mesh.{open_axes[-1]} must be >= 1, since only one axis can be -1, got -1")


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """Creates a mesh with axes dcn, data, fsdp and tensor.

    Args:
      config: number of devices along each axis.
      devices: devices of the mesh; default: all.

    Raises:
      ConfigError: the product of the axes is not the number of devices, or `dcn` does not divide slices and hosts.
      EmojaxError: the process was forked after JAX had started (`check_not_forked`).
    """
    check_not_forked()
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(config, axis) for axis in MESH_AXES]
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(len(devices) // math.prod(size for size in sizes if size != -1), 1)
    if math.prod(sizes) != len(devices):
        product = " x ".join(map(str, sizes))
        raise ConfigError(f"mesh: {' x '.join(MESH_AXES)} must be the {len(devices)} devices, got {product}")
    types = (AxisType.Auto,) * len(sizes)
    if sizes[0] == 1:
        return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=types, devices=devices)
    arranged = [mesh_utils.create_device_mesh(sizes[1:], group) for group in _groups(devices, sizes[0])]
    return Mesh(np.stack(arranged), MESH_AXES, axis_types=types)


def _groups(devices: list[jax.Device], number: int) -> list[list[jax.Device]]:
    """Splits devices into groups of whole slices, or where there is one slice, of whole hosts."""
    slices = [getattr(device, "slice_index", None) or 0 for device in devices]
    units = slices if len(set(slices)) > 1 else [device.process_index for device in devices]
    count = len(set(units))
    if count % number and count > 1:
        raise ConfigError(f"mesh.dcn must divide the {count} slices or hosts, got {number}")
    ordered = [device for _, device in sorted(enumerate(devices), key=lambda pair: (units[pair[0]], pair[0]))]
    size = len(devices) // number
    return [ordered[start : start + size] for start in range(0, len(devices), size)]


RULES = {"embed": "fsdp", "conv": "fsdp", "heads": "tensor", "mlp": "tensor", "vocab": "tensor"}
"""Mesh axis for each logical axis of a parameter (`emojax.encoders.parameters`).

Over `tensor`, attention heads and feed-forward units are divided among devices (Shoeybi et al. 2019); over `fsdp`,
every parameter is divided, and gathered when its layer is computed (Rajbhandari et al. 2020)."""

AxesOf = Callable[[str, int], tuple[str | None, ...] | None]
"""Maps path and number of dimensions of a parameter to the names of its logical axes; None without names."""


def no_names(path: str, ndim: int) -> None:
    """Returns None: `AxesOf` for models whose parameters have no named axes."""
    return


def leaf_sharding(leaf: Any, mesh: Mesh, names: tuple[str | None, ...] | None = None) -> NamedSharding:
    """Determines the sharding of one array: named axes by `RULES`, then the largest remaining axis over `fsdp`.

    Axes whose size is not a multiple of the number of devices are replicated.

    Args:
      leaf: array or `jax.ShapeDtypeStruct`.
      mesh: from `make_mesh`.
      names: logical names of the axes; None without names.
    """
    spec: list[str | None] = [None] * len(leaf.shape)
    named = names or (None,) * len(leaf.shape)

    def assign(dimension: int, axis: str) -> None:
        size = mesh.shape[axis]
        if size > 1 and axis not in spec and leaf.shape[dimension] and leaf.shape[dimension] % size == 0:
            spec[dimension] = axis

    for dimension, name in enumerate(named):
        if name in RULES:
            assign(dimension, RULES[name])
    for dimension in sorted(range(len(spec)), key=lambda number: -leaf.shape[number]):
        if spec[dimension] is None and named[dimension] != "layers":  # a stack of layers is gathered layer by layer
            assign(dimension, "fsdp")
    return NamedSharding(mesh, PartitionSpec(*spec) if any(spec) else PartitionSpec())


def device_put_fn(mesh: Mesh) -> Callable[[np.ndarray, tuple[str | None, ...]], jax.Array]:
    """Returns a function that puts host values, given the names of their axes, on the devices by `leaf_sharding`."""
    return lambda values, names: to_device(values, leaf_sharding(values, mesh, names))


def to_device(values: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """Creates an array from values that are the same on all hosts."""
    values = np.asarray(values)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def state_sharding(abstract_state: Any, mesh: Mesh, axes: AxesOf = no_names) -> Any:
    """Determines the shardings of parameters, or of a tree with the same paths such as the optimizer state.

    Args:
      abstract_state: tree of arrays or `jax.ShapeDtypeStruct`s.
      mesh: from `make_mesh`.
      axes: logical axes of the parameters.

    Returns:
      Tree of the same structure with a `NamedSharding` per leaf.
    """

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        keys = "/".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
        return leaf_sharding(leaf, mesh, axes(keys, len(leaf.shape)))

    return jax.tree.map_with_path(sharding, abstract_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batches: rows over the batch axes, other dimensions replicated."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that is whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def with_mesh(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Wraps a function so that `constrain_batch` and `constrain_replicated` use the mesh while it is traced."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return call


def tpu_kind() -> str:
    """Kind of TPU that runs what is being traced, e.g. `TPU v5 lite`; empty for other devices.

    It is that of the mesh of `with_mesh`, or else of the default devices.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    kind: str = jax.devices()[0].device_kind if device is None else device.device_kind
    return kind if kind.startswith("TPU") else ""


def cuda_capability() -> float:
    """Compute capability of the NVIDIA GPU that runs what is being traced, e.g. 9.0; 0.0 for other devices."""
    traced, device = jax.sharding.get_abstract_mesh().abstract_device, jax.devices()[0]
    if traced is not None and traced.device_kind != device.device_kind:
        return 0.0
    return float(device.compute_capability) if "cuda" in device.client.platform_version else 0.0


def on_single_cpu() -> bool:
    """Whether one CPU device runs what is being traced, by the mesh of `with_mesh`, or else the default devices."""
    mesh = jax.sharding.get_abstract_mesh()
    device = mesh.abstract_device
    kind = jax.devices()[0].platform if device is None else device.device_kind
    return kind == "cpu" and mesh.size <= 1


def constrain_batch(rows: jax.Array) -> jax.Array:
    """Constrains the first axis of an array and of its gradient to be sharded as a batch; requires `with_mesh`.

    Without the constraint, the partitioner may shard activations along features like the parameters they are
    multiplied with, and then exchanges activations, which are larger than the parameters.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.shape.get("fsdp", 1) == 1:
        return rows  # parameters are not sharded along features
    if rows.shape[0] % math.prod(mesh.shape[axis] for axis in BATCH_AXES):
        return rows
    free = [PartitionSpec.UNCONSTRAINED] * (rows.ndim - 1)
    return jax.lax.with_sharding_constraint(rows, PartitionSpec(BATCH_AXES, *free))


def constrain_replicated(parameter: jax.Array) -> jax.Array:
    """Constrains a parameter to be replicated while it is used; requires `with_mesh`."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.shape.get("fsdp", 1) == 1:
        return parameter
    return jax.lax.with_sharding_constraint(parameter, PartitionSpec())


def num_batch_shards(mesh: Mesh) -> int:
    """Returns the number of shards of a batch."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def host_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Returns the indices of the batch rows that this process loads, ascending.

    Raises:
      ConfigError: the batch size is not a multiple of the number of batch shards.
    """
    if batch_size % num_batch_shards(mesh):
        raise ConfigError(
            f"data.batch_size must be a multiple of the {num_batch_shards(mesh)} batch shards, got {batch_size}"
        )
    process = jax.process_index()
    shards = batch_sharding(mesh).devices_indices_map((batch_size,))
    local = {rows.indices(batch_size) for device, (rows,) in shards.items() if device.process_index == process}  # type: ignore[attr-defined]
    return np.unique(np.concatenate([np.arange(*bounds) for bounds in local]))


def to_global_arrays(tree: Any, mesh: Mesh) -> Any:
    """Combines each host's rows (NumPy arrays, see `host_rows`) to global arrays sharded over the batch axes."""
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:  # the rows are all rows; one call for the tree costs a third of one call per array
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), tree)


def to_host(tree: Any) -> Any:
    """Gathers global arrays on every host as NumPy arrays."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))
