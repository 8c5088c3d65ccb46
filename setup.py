"""The packages of a wheel: `configs/` is `emojax.configs` there, since `configs` is too common a name to install."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["emojax*", "tfds_builders*"]), "emojax.configs"],
    package_dir={"emojax.configs": "configs"},
)
