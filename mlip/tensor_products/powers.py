"""Powers of functions on the sphere: many-body products of the Gaunt coupling without coupling tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from e3nn.o3 import Irrep
from numpy.typing import NDArray

from mlip.errors import ConfigError
from mlip.so3 import SphereGrid, sphere_grid, spherical_harmonics


class PowerGrid(NamedTuple):
    """Tables with which `from_grid @ (to_grid @ a) ** order` are coefficients of the power of a function.

    Attributes:
        grid: The nodes.
        to_grid: Values of the function at the nodes, float64 [nodes, (l_max_in + 1)²].
        from_grid: Integrals of the power with the harmonics of the result, float64 [components of the result, nodes].
    """

    grid: SphereGrid
    to_grid: NDArray[np.float64]
    from_grid: NDArray[np.float64]


def power_grid(l_max_in: int, order: int, irreps_out: Sequence[Irrep]) -> PowerGrid:
    """Tables for ∫ f^order Y over the sphere, f = Σ a_lm Y_lm, exact for orthonormal harmonics.

    It is the Gaunt product of `order` equal operands, none of the products in between truncated (Luo et al. 2024, arXiv
    2401.10216). The grid integrates polynomials of degree order · l_max_in + l_max_out.

    Args:
        l_max_in: Highest degree of the function, whose coefficients are those of the irreps 0e, 1o, 2e, …
        order: Number of factors.
        irreps_out: Irreps of the result, of the parity (−1)^l of harmonics.

    Raises:
        ConfigError: the order or a degree is too small, or the power has no such irrep.
    """
    if order < 1:
        raise ConfigError(f"the order of a power is {order}: choose 1 or more.")
    if not irreps_out:
        raise ConfigError("a power has no irreps_out: name at least one, for example 0e.")
    for irrep in irreps_out:
        if irrep.p != (-1) ** irrep.l:
            raise ConfigError(
                f"the power of a function on the sphere has no part '{irrep}': choose outputs among 0e, 1o, 2e, …"
            )
        if irrep.l > order * l_max_in:
            raise ConfigError(
                f"the power of order {order} of a function of degree {l_max_in} has no part '{irrep}': "
                f"choose degrees up to {order * l_max_in}."
            )
    l_max_out = max(irrep.l for irrep in irreps_out)
    grid = sphere_grid(order * l_max_in + l_max_out)
    values = spherical_harmonics(max(l_max_in, l_max_out), torch.tensor(grid.nodes), "orthonormal").numpy()
    columns = np.concatenate([np.arange(irrep.l**2, (irrep.l + 1) ** 2) for irrep in irreps_out])
    return PowerGrid(grid, values[:, : (l_max_in + 1) ** 2], (values[:, columns] * grid.weights[:, None]).T)
