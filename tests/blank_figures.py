"""Blank figures: drawing them takes seconds per training run and evaluation."""

import pytest


def save_blank(figure, target, *, format):
    """Takes the place of `Figure.savefig`: a PNG file of one pixel."""
    from PIL import Image

    Image.new("L", (1, 1)).save(target, format=format)


def patch_figures(patch: pytest.MonkeyPatch) -> None:
    """Makes every figure be saved as a blank file."""
    from matplotlib.figure import Figure

    patch.setattr(Figure, "savefig", save_blank)
