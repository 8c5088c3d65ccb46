"""The device mesh."""

import dataclasses
import math

import jax
from jax.sharding import AxisType, Mesh

from emojax.errors import ConfigError

BATCH_AXES = ("data", "fsdp")
"""Mesh axes the batch dimension is divided over."""

MESH_AXES = (*BATCH_AXES, "tensor")
"""All mesh axes; devices next to each other along the last are closest to each other."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Device counts along each mesh axis; every field is documented in configs/default.py."""

    data: int
    fsdp: int
    tensor: int = 1

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        for axis in MESH_AXES:
            size = getattr(self, axis)
            if size != -1 and size < 1:
                raise ConfigError(f"mesh.{axis}: {size} is not allowed; allowed: an integer >= 1, or -1 for the rest")
        open_axes = [axis for axis in MESH_AXES if getattr(self, axis) == -1]
        if len(open_axes) > 1:
            raise ConfigError(f"mesh.{open_axes[-1]}: only one axis can be -1 (the rest of the devices)")


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """Arranges all devices (or the given ones) in a mesh with axes data, fsdp, tensor.

    Raises:
      ConfigError: the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(config, axis) for axis in MESH_AXES]
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(len(devices) // math.prod(size for size in sizes if size != -1), 1)
    if math.prod(sizes) != len(devices):
        product = " x ".join(map(str, sizes))
        raise ConfigError(f"mesh: {' x '.join(MESH_AXES)} = {product} does not make the {len(devices)} devices")
    return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes), devices=devices)
