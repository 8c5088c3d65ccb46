"""Device mesh, shardings, and the way between host rows and global arrays."""

from emojax.parallel.compilation import use_compilation_cache as use_compilation_cache
from emojax.parallel.layout import AxesOf as AxesOf
from emojax.parallel.layout import batch_sharding as batch_sharding
from emojax.parallel.layout import host_rows as host_rows
from emojax.parallel.layout import leaf_sharding as leaf_sharding
from emojax.parallel.layout import num_batch_shards as num_batch_shards
from emojax.parallel.layout import placed as placed
from emojax.parallel.layout import put as put
from emojax.parallel.layout import replicated as replicated
from emojax.parallel.layout import state_sharding as state_sharding
from emojax.parallel.layout import to_global_arrays as to_global_arrays
from emojax.parallel.layout import to_host as to_host
from emojax.parallel.mesh import MeshConfig as MeshConfig
from emojax.parallel.mesh import make_mesh as make_mesh
