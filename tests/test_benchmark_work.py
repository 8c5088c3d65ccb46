"""Operations and products of a program, from which benchmarks compute shares of the ceiling."""

import jax
import jax.numpy as jnp

from benchmarks.machine import Product
from benchmarks.work import work_of

ROWS, KERNEL, FILTERS = (jnp.zeros(shape) for shape in ((6, 8), (8, 4), (3, 8, 16)))


def test_a_product_in_a_loop_counts_with_every_iteration_and_comes_first():
    def loop(kernel):
        states = jax.lax.map(lambda rows: rows @ kernel, jnp.zeros((10, 6, 8)))
        return states, ROWS @ jnp.zeros((8, 30))

    work = work_of(loop, KERNEL)
    assert work.flops == 10 * 2 * 6 * 8 * 4 + 2 * 6 * 8 * 30
    assert work.products == (Product(6, 8, 4), Product(6, 8, 30))


def test_a_convolution_is_the_product_over_its_taps():
    def convolve(frames):
        return jax.lax.conv_general_dilated(frames, FILTERS, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))

    work = work_of(convolve, jax.ShapeDtypeStruct((2, 12, 8), jnp.float32))
    assert work.products == (Product(2 * 10, 3 * 8, 16),)
    assert work.flops == work.products[0].flops


def test_branches_of_other_platforms_do_not_count():
    def total(rows):
        return jax.lax.platform_dependent(
            rows, cpu=lambda rows: (rows @ KERNEL).sum(), default=lambda rows: (rows @ rows.T).sum()
        )

    work = work_of(total, ROWS)
    assert work.products == (Product(6, 8, 4),)
    assert work.flops == work.products[0].flops
