"""Trains and evaluates emotion models from a config file: `python launch.py --help`.

The flags and modes are in `emojax.launcher`, so that an installed package has them as `emojax-launch`.
"""

from emojax.launcher import launch

if __name__ == "__main__":
    launch()
