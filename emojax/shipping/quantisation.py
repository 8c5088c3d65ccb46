"""Makes of a workdir a small one with 8-bit weights, and tells what that costs."""

import shutil
from pathlib import Path

from emojax.errors import CheckpointError, ConfigError
from emojax.files import atomic_write, is_vacant
from emojax.parallel import MeshConfig, make_mesh
from emojax.workdir import CONFIG, CORPUS, QUANTISED, holds, restore_model, write_quantised


@holds("target")
def quantise_workdir(workdir: Path, target: Path) -> Path:
    """Writes a workdir that has 8-bit weights in place of checkpoints; it is evaluated and loaded as any other.

    Args:
      workdir: a trained run whose model has no pre-trained encoder.
      target: made; must be absent or empty.

    Returns:
      Path of the weights.

    Raises:
      ConfigError: the model has an encoder, or `target` holds something.
      CheckpointError: `workdir` cannot be restored.
      EmojaxError: `target` cannot be written.
    """
    if (workdir / QUANTISED).exists():
        raise CheckpointError(f"{workdir}: is quantised already")
    if not is_vacant(target):
        raise ConfigError(f"--output={target}: is not allowed; allowed: a new or empty folder")
    import jax

    trained = restore_model(workdir, make_mesh(MeshConfig(data=1, fsdp=1), jax.local_devices()[:1]))
    if trained.config.model.encoder_views:
        raise ConfigError(f"{workdir}: has a pre-trained encoder; allowed: models on log-mel alone")
    for name in (CONFIG, CORPUS):
        with atomic_write(target / name) as temporary:
            shutil.copyfile(workdir / name, temporary)
    return write_quantised(trained.variables, target)
