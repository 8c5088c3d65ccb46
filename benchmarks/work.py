"""Operations of a JAX program on a CPU, and its largest products.

Operations are those of products and convolutions, a multiplication and an addition as two, counted by the function of
plans (`emojax.planning.chips.count_flops`); Fourier transforms do not count. They are those of emojax's program: a
peer that computes the same result with other products needs another number.
"""

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from benchmarks.machine import Product
from emojax.planning.chips import count_flops


class Work(NamedTuple):
    """Operations of a program, and the products that take most of them."""

    flops: int
    products: tuple[Product, ...]


def work_of(function: Callable[..., Any], *arguments: Any, products: int = 4) -> Work:
    """Operations of a JAX function of arrays (or their shapes), and its products with most operations in total."""
    jaxpr = jax.make_jaxpr(function)(*arguments)
    totals: collections.Counter[Product] = collections.Counter()
    _add_products(jaxpr.jaxpr, 1, totals)
    return Work(count_flops(jaxpr, platform="cpu"), tuple(product for product, _ in totals.most_common(products)))


def _add_products(program: Any, times: int, totals: collections.Counter[Product]) -> None:
    for equation in program.eqns:
        name, params = equation.primitive.name, equation.params
        product = _product(name, params, [each.aval.shape for each in (*equation.invars, *equation.outvars)])
        if product is not None:
            totals[product] += times * product.flops
        platforms = params.get("branches_platforms") or ()  # of `jax.lax.platform_dependent`
        branches = [number for number, names in enumerate(platforms) if names is None or "cpu" in names]
        inner = [params["branches"][branches[0]]] if branches else list(params.values())
        for leaf in jax.tree.leaves(inner, is_leaf=lambda value: hasattr(value, "jaxpr")):
            jaxpr = getattr(leaf, "jaxpr", leaf)
            if hasattr(jaxpr, "eqns"):
                _add_products(jaxpr, times * (params["length"] if name == "scan" else 1), totals)


def _product(name: str, params: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]) -> Product | None:
    """The product of an operation; None for other operations and for batches of products."""
    if name == "dot_general":
        (contracted, _), (batch, _) = params["dimension_numbers"]
        inner = math.prod(shapes[0][axis] for axis in contracted)
        rows, columns = (math.prod(shape) // max(inner, 1) for shape in shapes[:2])
        return None if batch or 0 in (rows, inner, columns) else Product(rows, inner, columns)
    if name == "conv_general_dilated":
        outputs, *taps = (shapes[1][axis] for axis in params["dimension_numbers"].rhs_spec)
        columns = outputs // params["feature_group_count"]
        return Product(math.prod(shapes[2]) // outputs, math.prod(taps), columns)
    return None
