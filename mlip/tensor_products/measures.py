"""What a tensor product can express, computed from the operator itself."""

import numpy as np
import torch
from e3nn.o3 import Irrep
from torch import Tensor

from mlip.so3 import wigner_3j
from mlip.tensor_products.backend import Backend
from mlip.tensor_products.product import TensorProduct

# Relative to the largest: couplings that exist are above 1e-4 of it up to degree 8, what an exact CP fit leaves of the
# others is below 1e-7.
_ZERO = 1e-6


def expressivity(product: TensorProduct) -> int:
    """Dimension of the family of bilinear maps between single copies of the irreps that the weights reach.

    It is the rank of the derivative of the map with respect to the weights and an overall factor, at random weights:
    the number of paths for a weight per path, N1 + N2 + N3 − 2 for weights per degree whose paths connect all N entries
    (Xie et al. 2025, arXiv 2506.13523, section 3), 1 where there is at most one weight. Entries of different numbers of
    channels have weights of their own, so that their families add up.
    """
    if product.weights == "none":
        return 1
    # The map is affine in each weight, so that a step of 1 gives the derivative. Every weight structure is homogeneous:
    # the overall factor is among the derivatives.
    values = [_maps(backend) for backend in _backends(product)]
    return sum(int(np.linalg.matrix_rank(each[1:] - each[:1], rtol=_ZERO)) for each in values)


def interactability(product: TensorProduct) -> set[tuple[int, int, int]]:
    """Degrees (l1, l2, l3) whose block of the bilinear map is not zero for random weights.

    A truncated CP product mixes blocks that rotations or inversion forbid; only those that are allowed are looked at.
    """
    found = set()
    for backend in _backends(product):
        values = np.abs(_maps(backend)[0])
        found |= {
            (first.l, second.l, out.l)
            for (*_, (first, second, out)), value in zip(_blocks(backend), values, strict=True)
            if value > _ZERO * values.max()
        }
    return found


def _backends(product: TensorProduct) -> list[Backend]:
    return list(product.products)  # type: ignore[arg-type]


def _blocks(backend: Backend) -> list[tuple[slice, slice, slice, tuple[Irrep, Irrep, Irrep]]]:
    """Components and irreps of every three entries that an equivariant map may connect."""
    spec = backend.spec
    return [
        (
            slice(start1, start1 + first.dim),
            slice(start2, start2 + second.dim),
            slice(start3, start3 + out.dim),
            (first, second, out),
        )
        for first, start1 in zip(spec.irreps_in1, spec.offsets[0], strict=True)
        for second, start2 in zip(spec.irreps_in2, spec.offsets[1], strict=True)
        for out, start3 in zip(spec.irreps_out, spec.offsets[2], strict=True)
        if out in first * second
    ]


def _maps(backend: Backend) -> np.ndarray:
    """Bilinear maps at random weights and at these with each one raised by 1, [1 + weight_rows, blocks].

    An equivariant map is one number times the Wigner 3j tensor in every block (Schur's lemma): these are the numbers.
    """
    spec = backend.spec
    weight: Tensor | None = None
    if spec.weight_rows:
        generator = torch.Generator().manual_seed(0)
        # Generic, and far from zero, where a coupling would look absent.
        base = 1 + torch.rand(spec.weight_rows, 1, generator=generator, dtype=torch.float64)
        # A channel for each choice of weights.
        weight = torch.cat([base, base + torch.eye(spec.weight_rows, dtype=torch.float64)], 1)[None]
    d1, d2, _ = spec.dims
    x = torch.eye(d1, dtype=torch.float64).repeat_interleave(d2, 0)[..., None]
    y = torch.eye(d2, dtype=torch.float64).repeat(d1, 1)[..., None]
    with torch.no_grad():
        tensor = backend(x.expand(-1, -1, 1 + spec.weight_rows), y, weight).unflatten(0, (d1, d2)).numpy()
    numbers = [
        np.einsum("ijkc,ijk->c", tensor[in1, in2, out], wigner_3j(*(irrep.l for irrep in irreps)))
        for in1, in2, out, irreps in _blocks(backend)
    ]
    return np.stack(numbers, 1)
