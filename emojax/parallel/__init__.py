"""Device mesh, shardings, and the way between host rows and global arrays."""

from emojax.parallel.compilation import COMPILATIONS as COMPILATIONS
from emojax.parallel.compilation import use_compilation_cache as use_compilation_cache
from emojax.parallel.host_memory import keep_freed_memory as keep_freed_memory
from emojax.parallel.layout import AxesOf as AxesOf
from emojax.parallel.layout import batch_sharding as batch_sharding
from emojax.parallel.layout import host_rows as host_rows
from emojax.parallel.layout import leaf_sharding as leaf_sharding
from emojax.parallel.layout import num_batch_shards as num_batch_shards
from emojax.parallel.layout import on_mesh as on_mesh
from emojax.parallel.layout import placed as placed
from emojax.parallel.layout import put as put
from emojax.parallel.layout import replicated as replicated
from emojax.parallel.layout import rows_divided as rows_divided
from emojax.parallel.layout import state_sharding as state_sharding
from emojax.parallel.layout import to_global_arrays as to_global_arrays
from emojax.parallel.layout import to_host as to_host
from emojax.parallel.layout import undivided as undivided
from emojax.parallel.mesh import MeshConfig as MeshConfig
from emojax.parallel.mesh import make_mesh as make_mesh
from emojax.parallel.processes import all_should_stop as all_should_stop
from emojax.parallel.processes import is_alone as is_alone
from emojax.parallel.processes import is_first as is_first
from emojax.parallel.processes import join_processes as join_processes
from emojax.parallel.processes import lost_process as lost_process
from emojax.parallel.processes import smallest_of_all as smallest_of_all
from emojax.parallel.processes import wait_for_all as wait_for_all
