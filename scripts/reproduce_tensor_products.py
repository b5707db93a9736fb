"""Reproduces figures of the papers on tensor products, ours beside theirs, as Markdown.

    python scripts/reproduce_tensor_products.py expressivity
    python scripts/reproduce_tensor_products.py convolution   # one thread: shared weights against e3nn's uvu
    python scripts/reproduce_tensor_products.py cp            # one thread: rank 7 L² against e3nn's uvu, L = 1 … 6
    python scripts/reproduce_tensor_products.py escn          # one thread: edges turned to the pole against blocks

Contenders take turns in one process, against e3nn with one call outside the clock at the beginning of a turn; times are
medians with the 20th and 80th percentile. Decompositions that are not shipped are fitted first and kept in the user's
cache folder, which takes some minutes for L = 5 and 6.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial

import torch
from e3nn import o3

from mlip.benchmarks.timing import Statistics, Step, Stopwatch, interleave
from mlip.nn.convolution import convolution_table
from mlip.nn.layout import natural_irreps
from mlip.so3 import spherical_harmonics
from mlip.tensor_products import TensorProduct, expressivity
from mlip_kernels.channelwise_convolution import IMPLEMENTATIONS
from mlip_kernels.edges import EdgeTopology

EDGES, CHANNELS = 2000, 64
# Xie et al. 2025 (arXiv 2506.13523): paths of the Clebsch-Gordan product and dimension of what a Gaunt product reaches.
PAPER_PATHS = {1: (6, 5), 2: (19, 9), 3: (44, 13), 4: (85, 17)}
# Lin et al. 2025 (arXiv 2507.01131): times e3nn's, on a GPU, for L = 1 … 6.
PAPER_CP = (4.0, 4.8, 15.0, 26.7, 47.6, 83.6)


def even_irreps(l_max: int, channels: int = 1) -> str:
    """Every degree once, all even, so that inversion forbids no path."""
    return "+".join(f"{channels}x{degree}e" for degree in range(l_max + 1))


def print_table(head: list[str], rows: list[list[str]]) -> None:
    for line in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(line) + " |")
    print()


def print_expressivity() -> None:
    rows = []
    for l_max, (paths, gaunt_paths) in PAPER_PATHS.items():
        irreps, out = even_irreps(l_max), even_irreps(2 * l_max)
        natural, natural_out = (
            "+".join(f"{degree}{'eo'[degree % 2]}" for degree in range(highest + 1)) for highest in (l_max, 2 * l_max)
        )
        whole = TensorProduct(irreps, irreps, out)
        even = TensorProduct(natural, natural, natural_out)
        gaunt = TensorProduct(irreps, irreps, out, backend="spherical_grid", weights="per_degree")
        both = TensorProduct(
            irreps, irreps, out, backend="spherical_grid", coupling="gaunt+bracket", weights="per_degree"
        )
        matrix = TensorProduct(irreps, irreps, out, backend="matrix", weights="per_degree")
        measured = [expressivity(product) for product in (whole, even, gaunt, both, matrix)]
        rows.append([str(l_max), *map(str, measured), f"{paths}, {gaunt_paths}"])
    head = [
        "L",
        "Clebsch-Gordan",
        "its even paths",
        "Gaunt",
        "Gaunt + bracket",
        "matrix",
        "paper: Clebsch-Gordan, Gaunt",
    ]
    print_table(head, rows)


def e3nn_uvu(product: TensorProduct) -> torch.nn.Module:
    """e3nn's product over the same paths, with a weight per edge, path and channel, as in MACE and NequIP."""
    instructions = [(path.in1, path.in2, path.out, "uvu", True) for path in product.paths]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of torch's own deprecations inside e3nn.
        return o3.TensorProduct(
            product.irreps_in1,
            product.irreps_in2,
            product.irreps_out,
            instructions,
            irrep_normalization="none",
            path_normalization="none",
            shared_weights=False,
            internal_weights=False,
        )


def time_against_e3nn(l_max: int, contenders: dict[str, TensorProduct], seconds: float) -> dict[str, Statistics]:
    """Times of the forward pass: ours with shared weights, channel-last as in a network and in e3nn's layout."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    components = (l_max + 1) ** 2
    x, y, weight = normal(EDGES, components, CHANNELS), normal(EDGES, components, 1), normal(EDGES, 1, CHANNELS)
    flat = normal(EDGES, components * CHANNELS)
    steps: dict[str, Step] = {}

    def add(name: str, call: Callable[[], torch.Tensor]) -> None:
        def step() -> Callable[[], torch.Tensor]:
            # A turn begins with a call outside the clock: large tensors that the contender before has freed go back to
            # the system, and getting their pages again would cost the faster ones as much as their arithmetic.
            call()
            return call

        steps[name] = step

    for name, product in contenders.items():
        backend = product.products[0]
        add(name, lambda backend=backend: backend(x, y, weight))  # type: ignore[misc]
        add(f"{name}, e3nn's layout", lambda product=product: product(flat, y[..., 0], weight[:, 0]))  # type: ignore[misc]
        theirs = e3nn_uvu(product)
        weights = normal(EDGES, int(theirs.weight_numel))  # type: ignore[arg-type]
        add(f"e3nn over the paths of {name}", lambda theirs=theirs, weights=weights: theirs(flat, y[..., 0], weights))  # type: ignore[misc]
    stopwatch = Stopwatch()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in steps.values():
            stopwatch.warm_up(step, 10.0)
        return interleave(steps, seconds, stopwatch)


def milliseconds(times: Statistics) -> str:
    return f"{1e3 * times.median:.2f} ({1e3 * times.p20:.2f}–{1e3 * times.p80:.2f})"


def print_convolution() -> None:
    rows = []
    for l_max in (2, 3):
        irreps = even_irreps(l_max)
        wide = even_irreps(l_max, CHANNELS)
        contenders = {
            "edge_matrix": TensorProduct(wide, irreps, wide, weights="shared", algorithm="edge_matrix"),
            "cp, rank 7 L²": TensorProduct(wide, irreps, wide, backend="cp", weights="shared", rank=7 * l_max**2),
            "cp, exact": TensorProduct(wide, irreps, wide, backend="cp", weights="shared"),
            "grid": TensorProduct(wide, irreps, wide, backend="spherical_grid", weights="shared"),
        }
        times = time_against_e3nn(l_max, contenders, 20.0)
        for name, product in contenders.items():
            theirs = times[f"e3nn over the paths of {name}"]
            all_paths = times["e3nn over the paths of edge_matrix"]
            border = times[f"{name}, e3nn's layout"]
            rows.append(
                [
                    str(l_max),
                    name,
                    str(len(product.paths)),
                    milliseconds(times[name]),
                    milliseconds(theirs),
                    f"{theirs.median / times[name].median:.1f}",
                    f"{theirs.median / border.median:.1f}",
                    f"{all_paths.median / times[name].median:.1f}",
                ]
            )
    head = ["L", "product", "paths", "ours, ms", "e3nn uvu, ms", "ratio", "in e3nn's layout", "over e3nn of all paths"]
    print_table(head, rows)


def print_cp() -> None:
    rows = []
    for l_max, theirs_on_gpu in enumerate(PAPER_CP, 1):
        irreps, wide = even_irreps(l_max), even_irreps(l_max, CHANNELS)
        rank = 7 * l_max**2
        product = TensorProduct(wide, irreps, wide, backend="cp", weights="shared", rank=rank)
        times = time_against_e3nn(l_max, {"cp": product}, 20.0)
        ours, theirs = times["cp"], times["e3nn over the paths of cp"]
        ratio = f"{theirs.median / ours.median:.1f}"
        error = f"{product.error:.1e}"
        numbers = [str(l_max), str(rank), error, milliseconds(ours), milliseconds(theirs), ratio, f"{theirs_on_gpu}"]
        rows.append(numbers)
    print_table(["L", "rank", "error", "cp, ms", "e3nn uvu, ms", "ratio", "paper, on a GPU"], rows)


def _with_gradients(
    operation: torch.nn.Module, inputs: tuple[torch.Tensor, ...], edges: EdgeTopology
) -> Callable[[], object]:
    return lambda: torch.autograd.grad(operation(*inputs, edges).sum(), inputs)


def print_escn() -> None:
    """Convolutions with weights per path, features and harmonics of every degree up to L, natural parity."""
    generator = torch.Generator().manual_seed(0)
    nodes, edges_per_node = 100, 20
    receivers = torch.arange(nodes).repeat_interleave(edges_per_node)
    edges = EdgeTopology(torch.randint(0, nodes, receivers.shape, generator=generator), receivers, nodes)
    vectors = torch.randn(len(receivers), 3, generator=generator)
    rows = []
    for l_max in range(1, 7):
        irreps = natural_irreps(CHANNELS, l_max)
        table, _ = convolution_table(irreps, l_max, {irrep for _, irrep in irreps})
        features = torch.randn(nodes, irreps.dim, generator=generator, requires_grad=True)
        weights = torch.randn(len(receivers), table.weight_dim, generator=generator, requires_grad=True)
        harmonics = spherical_harmonics(l_max, vectors).requires_grad_()
        steps: dict[str, Step] = {}
        for name in ("blocked", "escn"):
            operation = IMPLEMENTATIONS[name](table).float()

            steps[name] = partial(_with_gradients, operation, (features, harmonics, weights), edges)
        stopwatch = Stopwatch()
        for each in steps.values():
            stopwatch.warm_up(each, 10.0)
        times = interleave(steps, 10.0, stopwatch)
        ratio = f"{times['blocked'].median / times['escn'].median:.2f}"
        rows.append([str(l_max), *(milliseconds(times[name]) for name in ("blocked", "escn")), ratio])
    print_table(["L", "blocked, ms", "escn, ms", "ratio"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = {
        "expressivity": print_expressivity,
        "convolution": print_convolution,
        "cp": print_cp,
        "escn": print_escn,
    }
    parser.add_argument("table", choices=tables)
    torch.set_num_threads(1)
    tables[parser.parse_args().table]()


if __name__ == "__main__":
    main()
