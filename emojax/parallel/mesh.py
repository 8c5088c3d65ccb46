"""The device mesh and how batches and states are laid out on it."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emojax.errors import ConfigError

BATCH_AXES = ("data", "fsdp")
"""Mesh axes the batch dimension is divided over."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Device counts along each mesh axis; every field is documented in configs/default.py."""

    data: int
    fsdp: int

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        for axis in BATCH_AXES:
            size = getattr(self, axis)
            if size != -1 and size < 1:
                raise ConfigError(f"mesh.{axis}: {size} is not allowed; allowed: an integer >= 1, or -1 for the rest")
        if self.data == -1 and self.fsdp == -1:
            raise ConfigError("mesh.fsdp: only one axis can be -1 (the rest of the devices)")


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """Arranges all devices (or the given ones) in a mesh with axes data, fsdp.

    Raises:
      ConfigError: the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp]
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(len(devices) // math.prod(size for size in sizes if size != -1), 1)
    if math.prod(sizes) != len(devices):
        raise ConfigError(f"mesh: data x fsdp = {sizes[0]} x {sizes[1]} does not make the {len(devices)} devices")
    return jax.make_mesh(tuple(sizes), BATCH_AXES, axis_types=(AxisType.Auto,) * len(sizes), devices=devices)


def num_batch_shards(mesh: Mesh) -> int:
    """Number of parts a batch is divided into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the batch axes, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(abstract_state: Any, mesh: Mesh) -> Any:
    """Shardings of a train state: each array divided over `fsdp` along its largest axis that divides evenly.

    Args:
      abstract_state: tree of arrays or `jax.ShapeDtypeStruct`s.
      mesh: from `make_mesh`.

    Returns:
      The same tree with a `NamedSharding` per leaf; with `fsdp` 1, everything is replicated.
    """

    return jax.tree.map(lambda leaf: leaf_sharding(leaf, mesh), abstract_state)


def leaf_sharding(leaf: Any, mesh: Mesh) -> NamedSharding:
    """Sharding of one array: over `fsdp` along its largest axis that divides evenly, else replicated."""
    size = mesh.shape["fsdp"]
    divisible = [axis for axis, length in enumerate(leaf.shape) if length % size == 0 and length >= size]
    if size == 1 or not divisible:
        return replicated(mesh)
    largest = max(divisible, key=lambda axis: leaf.shape[axis])
    return NamedSharding(mesh, PartitionSpec(*("fsdp" if axis == largest else None for axis in range(len(leaf.shape)))))


def to_global_arrays(tree: Any, mesh: Mesh) -> Any:
    """Makes each host's rows (NumPy arrays) one global array, rows divided over the batch axes."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), tree)


def to_host(tree: Any) -> Any:
    """Brings global arrays whole to every host as NumPy arrays."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))
