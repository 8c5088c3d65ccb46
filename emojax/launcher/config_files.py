"""Config files of the package: `configs/` of a checkout, `emojax/configs/` where the package is installed."""

import importlib.util
import runpy
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import emojax
from emojax.errors import ConfigError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_PACKAGE = "configs"
"""Name by which config files import each other."""


def bundled_directory() -> Path:
    """Folder of the config files that belong to the package."""
    package = Path(emojax.__file__).parent
    installed = package / _PACKAGE
    return installed if installed.is_dir() else package.parent / _PACKAGE


def find_config_file(name: str) -> str:
    """Path of a config file.

    A file that exists is taken as it is. Otherwise `NAME`, `NAME.py` and `configs/NAME.py` mean the bundled config of
    that name, if there is one.

    Args:
      name: path or name, with `:ARGUMENT` for `get_config` behind it or not.

    Returns:
      The path, with the same `:ARGUMENT`.

    Raises:
      ConfigError: there is no such file and no such config in the package.
    """
    path, colon, argument = name.partition(":")
    wanted = Path(path)
    if wanted.is_file():
        return name
    bundled = bundled_directory() / f"{wanted.name.removesuffix('.py')}.py"
    if wanted.parent.as_posix() in (".", _PACKAGE) and bundled.is_file():
        return f"{bundled}{colon}{argument}"
    available = ", ".join(sorted(file.stem for file in bundled_directory().glob("*.py")))
    raise ConfigError(f"{name}: no such config file; the package has {available}")


def import_bundled_configs() -> None:
    """Makes `from configs import NAME` import a bundled config where no other package has the name `configs`.

    The installed package has them as `emojax.configs`: a distribution must not occupy so common a name.
    """
    if _PACKAGE not in sys.modules and importlib.util.find_spec(_PACKAGE) is None:
        package = types.ModuleType(_PACKAGE)
        package.__path__ = [str(bundled_directory())]
        sys.modules[_PACKAGE] = package


def load_config(name: str) -> "ConfigDict":
    """Loads a config as `--config` does.

    Args:
      name: path of a config file, or name of a bundled config, with `:ARGUMENT` or not (see `find_config_file`).

    Raises:
      ConfigError: there is no such file.
    """
    path, _, argument = find_config_file(name).partition(":")
    import_bundled_configs()
    return runpy.run_path(path)["get_config"](*([argument] if argument else []))
