"""How rotations and reflections act on the components of each degree."""

from functools import cache

import torch

from mlip.so3.couplings import wigner_3j


def rotation_matrices(l_max: int, operations: torch.Tensor) -> list[torch.Tensor]:
    """Matrices D_l with `Y_l(R v) = D_l(R) Y_l(v)` for degrees 0 … l_max.

    D_{l+1} is D_l ⊗ R projected on degree l + 1, hence a polynomial in the entries of R of degree l + 1: differentiable
    and free of the singularities of Euler angles, and for a reflection the action on harmonics, whose parity is (−1)^l.

    Args:
        l_max: Highest degree.
        operations: Orthogonal matrices R, [..., 3, 3].

    Returns:
        l_max + 1 tensors [..., 2 l + 1, 2 l + 1], of the dtype and device of `operations`.
    """
    matrices = [torch.ones_like(operations[..., :1, :1])]
    for degree in range(l_max):
        lift = _lift(degree, operations.dtype, operations.device)
        previous = matrices[-1]
        rows = torch.einsum("...ac,cdk->...adk", previous, lift)
        products = torch.einsum("...bd,...adk->...abk", operations, rows)
        matrices.append(torch.einsum("abi,...abk->...ik", lift, products))
    return matrices


@cache
def _lift(degree: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Isometry `[2l + 1, 3, 2l + 3]` that projects degree l ⊗ degree 1 on degree l + 1."""
    # A tensor made in inference mode could never serve autograd afterwards, and this one is cached.
    with torch.inference_mode(False):
        tensor = wigner_3j(degree, 1, degree + 1) * (2 * degree + 3) ** 0.5
        return torch.tensor(tensor, dtype=dtype, device=device)
