"""The device mesh."""

import math
from typing import Annotated

import jax
from jax.sharding import AxisType, Mesh

from emojax.errors import ConfigError
from emojax.parallel.forking import check_not_forked
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
