"""What a tensor product can express, computed from the operator itself."""

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from mlip.tensor_products.product import TensorProduct

# Blocks and singular values below this, relative to the largest, are rounding or the truncation of a CP fit.
_EXACT_ZERO = 1e-9


def expressivity(product: TensorProduct) -> int:
    """Dimension of the family of bilinear maps between single copies of the irreps that the weights reach.

    It is the rank of the derivative of the map with respect to the weights and an overall factor, at random weights:
    the number of paths for a weight per path, N1 + N2 + N3 − 2 for weights per degree (Xie et al. 2025, arXiv
    2506.13523, section 3), 1 where there is at most one weight.
    """
    single = single_copies(product)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    # Each random pair of operands gives irreps_out.dim linear functions of the map; so many separate any two maps.
    samples = single.weight_numel + 16
    x, y = normal(samples, single.irreps_in1.dim), normal(samples, single.irreps_in2.dim)
    if not single.weight_numel:
        return int(bool(single(x, y).abs().max() > 0))
    weight = normal(single.weight_numel)
    derivative = torch.autograd.functional.jacobian(lambda each: single(x, y, each).flatten(), weight, vectorize=True)
    # Every structure is homogeneous in its weights, so that the overall factor is among the derivatives.
    return int(torch.linalg.matrix_rank(derivative, rtol=_EXACT_ZERO))


def interactability(product: TensorProduct) -> set[tuple[int, int, int]]:
    """Degrees (l1, l2, l3) whose block of the bilinear map is not zero for random weights.

    A truncated CP product mixes blocks that rotations forbid; only those that are allowed are looked at.
    """
    single = single_copies(product)
    generator = torch.Generator().manual_seed(0)
    weight = None
    if single.weight_numel:
        weight = torch.randn(single.weight_numel, generator=generator, dtype=torch.float64)
    d1, d2 = single.irreps_in1.dim, single.irreps_in2.dim
    x = torch.eye(d1, dtype=torch.float64).repeat_interleave(d2, 0)
    y = torch.eye(d2, dtype=torch.float64).repeat(d1, 1)
    with torch.no_grad():
        tensor = single(x, y, weight).unflatten(0, (d1, d2)).abs()
    floor = _EXACT_ZERO * float(tensor.max())
    found = set()
    for first, rows in zip(single.irreps_in1, single.irreps_in1.slices(), strict=True):
        for second, columns in zip(single.irreps_in2, single.irreps_in2.slices(), strict=True):
            for out, layers in zip(single.irreps_out, single.irreps_out.slices(), strict=True):
                allowed = out.ir in first.ir * second.ir
                if allowed and bool(tensor[rows, columns, layers].max() > floor):
                    found.add((first.ir.l, second.ir.l, out.ir.l))
    return found


def single_copies(product: TensorProduct) -> TensorProduct:
    """The product of the same entries, paths and weight structure with one channel each, weights given per call."""
    ones = [
        Irreps([(1, irrep) for _, irrep in irreps])
        for irreps in (product.irreps_in1, product.irreps_in2, product.irreps_out)
    ]
    return TensorProduct(
        *ones,
        backend=product.backend,
        coupling=product.coupling,
        weights=product.weights,
        mode=product.mode,
        **product.options,
    )
