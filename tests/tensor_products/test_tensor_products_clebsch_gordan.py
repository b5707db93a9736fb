"""The algorithms of the Clebsch-Gordan backend against e3nn, against each other, and their counts against torch's."""

from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mlip.errors import ConfigError
from mlip.tensor_products import ProductSpec, TensorProduct
from mlip.tensor_products.backend import build_backend

ALGORITHMS = ["sparse", "dense", "edge_matrix"]
STRUCTURES = ["none", "shared", "per_path", "per_degree"]
# Both parities, entries that stand twice, degrees that skip.
IRREPS = ("4x0e+4x1o+4x1e+4x2e+4x1o", "0e+1o+3o+2e+1o", "4x0e+4x1o+4x1e+4x2o+4x2e+4x0e")


class Counter(TorchDispatchMode):
    """Counts additions and multiplications, by the shapes that each operation sees, and the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix_flops = self.elementwise_flops = self.largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in ("mm", "bmm"):
            self.matrix_flops += 2 * result.numel() * args[0].shape[-1]
        elif name in ("mul", "mul_", "add", "add_"):
            self.elementwise_flops += result.numel()
        elif name in ("addcmul", "addcmul_"):
            self.elementwise_flops += 2 * result.numel()
        if isinstance(result, Tensor):
            # The memory behind it: a view may show the same numbers many times over.
            self.largest = max(self.largest, result.untyped_storage().nbytes() // result.itemsize)
        return result


def operands(product: TensorProduct, batch: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = [product.irreps_in1.dim, product.irreps_in2.dim, product.weight_numel]
    return [torch.randn(batch, width, generator=generator, dtype=torch.float64) for width in widths if width]


@pytest.mark.usefixtures("e3nn_in_double")
@pytest.mark.parametrize("mode", ["channelwise", "elementwise"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equals_e3nn(algorithm: str, mode: str) -> None:
    in1, in2, out = IRREPS
    if mode == "elementwise":
        in2 = "+".join(f"4x{entry}" for entry in in2.split("+"))
    ours = TensorProduct(in1, in2, out, mode=mode, algorithm=algorithm)
    connection = {"channelwise": "uvu", "elementwise": "uuu"}[mode]
    theirs = o3.TensorProduct(
        in1,
        in2,
        out,
        [(path.in1, path.in2, path.out, connection, True) for path in ours.paths],
        shared_weights=False,
        internal_weights=False,
        irrep_normalization="none",
        path_normalization="none",
    )
    x, y, weight = operands(ours)
    torch.testing.assert_close(ours(x, y, weight), theirs(x, y, weight), rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels_in2", [1, 6])
@pytest.mark.parametrize("weights", STRUCTURES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_flops_are_those_of_the_algorithm(algorithm: str, weights: str, channels_in2: int) -> None:
    spec = spec_of(weights)
    backend = build_backend("clebsch_gordan", spec, {"algorithm": algorithm})
    batch, channels = 7, 6
    x, y, weight = tensors(spec, batch, channels, channels_in2)
    d1, d2, d3 = spec.dims
    # Multiplications by weights, which are no part of the bare product.
    weighting = {
        "none": 0,
        "shared": min(d1, d3),
        "per_degree": d1 + d2 + d3,
        "per_path": sum(path.irrep_out.dim for path in spec.paths),
    }[weights]
    if channels_in2 == 1 and algorithm == "edge_matrix" and weights == "per_degree":
        weighting += len(spec.irreps_in2) * d1 - d2
    if channels_in2 == 1 and algorithm == "edge_matrix" and weights == "per_path":
        weighting = sum(path.irrep_in1.dim for path in spec.paths)
    with Counter() as counter:
        backend(x, y, weight)
    found = backend.flops(batch, channels, channels_in2)
    assert found == counter.matrix_flops + counter.elementwise_flops - weighting * batch * channels


@pytest.mark.parametrize("weights", STRUCTURES)
@pytest.mark.parametrize("algorithm", ["sparse", "edge_matrix"])
def test_one_channel_of_y_is_never_expanded_to_all_pairs_of_components(algorithm: str, weights: str) -> None:
    spec = spec_of(weights)
    backend = build_backend("clebsch_gordan", spec, {"algorithm": algorithm})
    x, y, weight = tensors(spec, 64, 16, 1)
    with Counter() as counter:
        backend(x, y, weight)
    d1, d2, _ = spec.dims
    assert counter.largest < 64 * d1 * d2 * 16 / 2


def test_dense_forms_all_pairs_of_components() -> None:
    """Which shows that the test above can fail."""
    spec = spec_of("none")
    x, y, _ = tensors(spec, 64, 16, 1)
    with Counter() as counter:
        build_backend("clebsch_gordan", spec, {"algorithm": "dense"})(x, y, None)
    assert counter.largest == 64 * spec.dims[0] * spec.dims[1] * 16


@pytest.mark.parametrize(
    ("irreps", "mode", "batch", "algorithm"),
    [
        (("64x0e+64x1o+64x2e+64x3o", "0e+1o+2e+3o", "64x0e+64x1o+64x2e+64x3o"), "channelwise", 2000, "edge_matrix"),
        (("8x1o", "8x1o", "8x0e+8x1e+8x2e"), "elementwise", 10, "dense"),
        (("16x0e+16x1o+16x2e+16x3o", "16x0e+16x1o+16x2e+16x3o", "16x0e"), "elementwise", 2000, "sparse"),
    ],
)
def test_the_choice_where_one_algorithm_is_far_ahead(
    irreps: tuple[str, str, str], mode: str, batch: int, algorithm: str
) -> None:
    product = TensorProduct(*irreps, mode=mode, weights="none")
    (backend,) = product.products
    channels = product.irreps_in1[0].mul
    channels_in2 = channels if mode == "elementwise" else 1
    assert backend.algorithm_for(batch, channels, channels_in2) == algorithm
    alone = TensorProduct(*irreps, mode=mode, weights="none", algorithm=algorithm)
    assert product.work(batch) == alone.work(batch)


@pytest.mark.parametrize("weights", STRUCTURES)
def test_what_is_chosen_is_what_runs(weights: str) -> None:
    spec = spec_of(weights)
    backend = build_backend("clebsch_gordan", spec, {})
    for channels_in2 in (1, 6):
        x, y, weight = tensors(spec, 7, 6, channels_in2)
        chosen = backend.algorithm_for(7, 6, channels_in2)
        alone = build_backend("clebsch_gordan", spec, {"algorithm": chosen})
        assert torch.equal(backend(x, y, weight), alone(x, y, weight))
        assert torch.equal(backend.bilinear(x, y), alone.bilinear(x, y))


def test_unknown_algorithm() -> None:
    with pytest.raises(ConfigError, match="unknown algorithm 'edge_matrx': did you mean 'edge_matrix'"):
        TensorProduct("0e", "0e", "0e", algorithm="edge_matrx")


def spec_of(weights: str) -> ProductSpec:
    in1, in2, out = (tuple(irrep for _, irrep in o3.Irreps(each)) for each in IRREPS)
    return ProductSpec(in1, in2, out, "clebsch_gordan", weights)


def tensors(spec: ProductSpec, batch: int, channels: int, channels_in2: int) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    d1, d2, _ = spec.dims

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, y = normal(batch, d1, channels), normal(batch, d2, channels_in2)
    return x, y, normal(batch, spec.weight_rows, channels) if spec.weight_rows else None
