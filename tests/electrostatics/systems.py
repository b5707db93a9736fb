"""Point charges for the tests of the solver, and sums that share nothing with it."""

import itertools
import math

import numpy as np
import torch
from scipy.special import erf, erfc
from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT

SKEWED = torch.tensor([[9.0, 0.0, 0.0], [2.5, 8.0, 0.0], [-1.5, 2.0, 8.5]], dtype=torch.float64)


def random_charges(count: int, seed: int, box: Tensor | None = None, total: float = 0.0) -> tuple[Tensor, Tensor]:
    """Positions no nearer than some 0.8 Å, in Å, and charges, in e: a grid of cells, displaced at random.

    Without a box, it is a cube of 10 Å³ a charge.
    """
    generator = torch.Generator().manual_seed(seed)
    side = math.ceil(count ** (1 / 3) - 1e-9)
    places = torch.cartesian_prod(*(torch.arange(side, dtype=torch.float64),) * 3).reshape(-1, 3)
    places = places[torch.randperm(len(places), generator=generator)[:count]]
    if box is None:
        box = torch.eye(3, dtype=torch.float64) * (10 * count) ** (1 / 3)
    shifts = 0.25 * (2 * torch.rand(count, 3, dtype=torch.float64, generator=generator) - 1)
    charges = 0.5 * torch.randn(count, dtype=torch.float64, generator=generator)
    return ((places + 0.5 + shifts) / side) @ box, charges - charges.mean() + total / count


def open_energy(positions: Tensor, charges: Tensor) -> float:
    """Energy of an open system by the sum over pairs, eV."""
    first, second = np.triu_indices(len(positions), 1)
    x, q = positions.numpy(), charges.numpy()
    return COULOMB_CONSTANT * float((q[first] * q[second] / np.linalg.norm(x[first] - x[second], axis=1)).sum())


def slab_energy(positions: Tensor, charges: Tensor, cell: Tensor, alpha: float) -> float:
    """Energy of a neutral slab, periodic along the first two rows of a cell that lie in the plane xy, eV.

    Ewald's sum in two dimensions: D. E. Parry, Surface Science 49, 433 (1975).
    """
    x, q, vectors = positions.numpy(), charges.numpy(), cell.numpy()[:2]
    area = abs(np.linalg.det(vectors[:, :2]))
    reciprocal = 2 * np.pi * np.linalg.inv(vectors[:, :2]).T
    differences, products = x[:, None] - x, q[:, None] * q
    z, root = differences[..., 2], math.sqrt(math.pi)
    energy = -root / area * (products * (np.exp(-((alpha * z) ** 2)) / alpha + root * z * erf(alpha * z))).sum()
    for m1, m2 in itertools.product(range(-16, 17), repeat=2):
        k = m1 * reciprocal[0] + m2 * reciprocal[1]
        length = float(np.linalg.norm(k))
        if 0 < length < 13 * alpha:
            up = np.exp(length * z) * erfc(alpha * z + length / (2 * alpha))
            down = np.exp(-length * z) * erfc(-alpha * z + length / (2 * alpha))
            energy += np.pi / (2 * area * length) * (products * np.cos(differences[..., :2] @ k) * (up + down)).sum()
    for n1, n2 in itertools.product(range(-7, 8), repeat=2):
        r = np.linalg.norm(differences + n1 * vectors[0] + n2 * vectors[1], axis=-1)
        r[r == 0] = np.inf
        energy += 0.5 * (products * erfc(alpha * r) / r).sum()
    return COULOMB_CONSTANT * float(energy - alpha / root * (q**2).sum())


def wire_energy(positions: Tensor, charges: Tensor, vector: Tensor) -> float:
    """Energy of a neutral wire: sums over images up to M = 40 … 240 on each side, extrapolated in 1/(M + ½)², eV."""
    x, q, along = positions.numpy(), charges.numpy(), vector.numpy()
    differences, products = x[:, None] - x, q[:, None] * q

    def images(first: int, last: int) -> float:
        total = 0.0
        for number in range(first, last + 1):
            r = np.linalg.norm(differences + number * along, axis=-1)
            r[r == 0] = np.inf
            total += (products / r).sum() * (0.5 if number == 0 else 1.0)
        return total

    limits, sums = np.array([40, 60, 80, 120, 160, 240]), []
    for start, stop in zip([0, *(limits[:-1] + 1)], limits, strict=True):
        sums.append((sums[-1] if sums else 0.0) + images(start, stop))
    steps = 1 / (limits + 0.5)
    powers = np.stack([steps ** (2 * order) for order in range(len(limits))], axis=1)
    return COULOMB_CONSTANT * float(np.linalg.solve(powers, np.array(sums))[0])
