"""Print what products on the sphere's grid cost, as Markdown: counted, beside published counts, or measured.

    python scripts/grid_flop_table.py
    OMP_NUM_THREADS=1 python scripts/grid_flop_table.py --time

The first table counts additions and multiplications of one Gaunt product of one channel, all degrees up to L with all
up to L to all up to 2L. The published counts are those of the compiled program of Xie et al. 2025 (arXiv 2506.13523,
https://github.com/atomicarchitects/PriceofFreedom, `benchmarking/csv/flops_cpu.csv`, the rows `MIMO, GTP-grid`, for
10 000 products). `--time` measures both transforms of the backend, from which it is chosen which one serves as default.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from e3nn.o3 import Irrep

from mlip.tensor_products import ProductSpec
from mlip.tensor_products.spherical_grid import SphericalGrid, TransformKind

# For L = 1 … 10 and one product. The file holds 10 000 times as much in float32, hence rounded from L = 4 on.
PUBLISHED = (843, 5145, 17535, 44541, 94611, 178113, 307335, 496485, 761691, 1121001)
# Highest degrees of the operands and the result, by the total degree of the grid.
TIMED = ((2, 2, 2), (3, 3, 3), (4, 4, 4), (5, 5, 5), (6, 6, 6), (5, 5, 10), (7, 7, 7), (6, 6, 12), (8, 8, 8), (9, 9, 9))
CHANNELS = 64
MEASUREMENTS = 21


def explained_flops(l_max: int) -> int:
    """The published count by a formula: a grid of (2L + 1) × (4L + 2) nodes, one φ more than needed.

    Each function of θ is taken by a dense array [order, θ, components], of which only the components of that order are
    not zero; then come the Fourier series in φ, the product, and the same backwards with one scaling.
    """
    theta, phi = 2 * l_max + 1, 4 * l_max + 2
    orders, orders_out = 2 * l_max + 1, 4 * l_max + 1
    components, components_out = (l_max + 1) ** 2, (2 * l_max + 1) ** 2
    to_grid = 2 * theta * orders * components + 2 * theta * phi * orders
    from_grid = 2 * theta * phi * orders_out + theta * orders_out + 2 * theta * orders_out * components_out
    return 2 * to_grid + theta * phi + from_grid


def grid_product(degrees: tuple[int, int, int], transform: TransformKind) -> SphericalGrid:
    """The Gaunt product of the irreps 0e, 1o, … up to these degrees."""
    in1, in2, out = (tuple(Irrep(each, (-1) ** each) for each in range(l_max + 1)) for l_max in degrees)
    return SphericalGrid(ProductSpec(in1, in2, out, "gaunt", "none"), transform=transform)


def print_flops() -> None:
    """The table of counts."""
    print("| L | nodes | dense | separable | published | formula |\n|---|---|---|---|---|---|")
    for l_max, published in enumerate(PUBLISHED, 1):
        dense, separable = (grid_product((l_max, l_max, 2 * l_max), transform) for transform in ("dense", "separable"))
        grid = dense.parts[0].grid
        counts = (dense.flops(1, 1, 1), separable.flops(1, 1, 1), published, explained_flops(l_max))
        print(f"| {l_max} | {grid.theta_count} × {grid.phi_count} | " + " | ".join(map(str, counts)) + " |")


def print_times() -> None:
    """The table of times, for y of one channel and of as many as x."""
    processor = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {processor}, {torch.get_num_threads()} thread(s), float32, {CHANNELS} channels")
    print(f"forward, ms, the fastest of {MEASUREMENTS} calls, both transforms in turn\n")
    print("| degrees | grid's degree | batch | y | dense | separable | ratio |\n|---|---|---|---|---|---|---|")
    generator = torch.Generator().manual_seed(0)
    for degrees in sorted(TIMED, key=sum):
        dense, separable = (grid_product(degrees, transform) for transform in ("dense", "separable"))
        batch = max(16, int(1e9 / dense.flops(1, CHANNELS, CHANNELS)))
        d1, d2, _ = dense.spec.dims
        x = torch.randn(batch, d1, CHANNELS, generator=generator)
        for width in (1, CHANNELS):
            y = torch.randn(batch, d2, width, generator=generator)
            calls = [partial(product, x, y, None) for product in (dense, separable)]
            of_dense, of_separable = (1e3 * each for each in seconds(calls))
            row = f"| {degrees} | {sum(degrees)} | {batch} | {width} | {of_dense:.2f} | {of_separable:.2f} |"
            print(f"{row} {of_separable / of_dense:.2f} |", flush=True)


def seconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Shortest time of each call, taken in turn so that what else the machine does meets all alike."""
    shortest = [math.inf for _ in calls]
    with torch.inference_mode():
        for _ in range(MEASUREMENTS):
            for number, call in enumerate(calls):
                start = time.perf_counter()
                call()
                shortest[number] = min(shortest[number], time.perf_counter() - start)
    return shortest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", action="store_true", help="measure the transforms instead of counting")
    if parser.parse_args().time:
        print_times()
    else:
        print_flops()
