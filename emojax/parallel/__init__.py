"""Device mesh, shardings, and the way between host rows and global arrays."""

from emojax.parallel.compilation import use_compilation_cache as use_compilation_cache
from emojax.parallel.mesh import MeshConfig as MeshConfig
from emojax.parallel.mesh import batch_sharding as batch_sharding
from emojax.parallel.mesh import leaf_sharding as leaf_sharding
from emojax.parallel.mesh import make_mesh as make_mesh
from emojax.parallel.mesh import num_batch_shards as num_batch_shards
from emojax.parallel.mesh import replicated as replicated
from emojax.parallel.mesh import state_sharding as state_sharding
from emojax.parallel.mesh import to_global_arrays as to_global_arrays
from emojax.parallel.mesh import to_host as to_host
