"""Neighbour lists and operands for the tests of pair sums, and these sums by independent means."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlip_kernels.coulomb_pairs import Screening, screened_potential

# Pairs of the cases lie on both sides of its end and within.
SCREENING = Screening(alpha=0.4, cutoff=1.6, width=0.4)


@dataclass(frozen=True)
class Crystal:
    """Atoms in a skewed cell and the list of their neighbours, images included.

    Attributes:
        positions: [atoms, 3].
        cell: [3, 3].
        senders: [pairs].
        shifts: Multiples of the cell's vectors, [pairs, 3].
        starts: [atoms + 1].
    """

    positions: Tensor
    cell: Tensor
    senders: Tensor
    shifts: Tensor
    starts: Tensor

    def screened(self, positions: Tensor, cell: Tensor, charges: Tensor, screening: Screening) -> Tensor:
        """The operation, offsets a function of the cell."""
        return screened_potential(positions, self.shifts @ cell, charges, screening, self.senders, self.starts)

    def expected(self, positions: Tensor, cell: Tensor, charges: Tensor, screening: Screening) -> Tensor:
        """The same in plain torch, one row for each pair."""
        receivers = torch.repeat_interleave(torch.arange(len(positions)), self.starts.diff())
        distances = (positions[self.senders] + self.shifts @ cell - positions[receivers]).norm(dim=1, keepdim=True)
        terms = charges[self.senders] * torch.erfc(screening.alpha * distances) / distances
        terms = terms * (1 - torch.erf((distances - screening.cutoff) / screening.width)) / 2
        return torch.zeros_like(charges).index_add(0, receivers, terms)


def crystal(atoms: int, cutoff: float, seed: int, dtype: torch.dtype = torch.float64) -> Crystal:
    """Random atoms, at least 0.5 apart, in a skewed cell of volume 2 for each."""
    generator = torch.Generator().manual_seed(seed)
    cell = torch.tensor([[1.0, 0.0, 0.0], [0.2, 1.0, 0.0], [-0.1, 0.3, 1.0]], dtype=torch.float64)
    cell *= (2.0 * max(atoms, 1)) ** (1 / 3)
    images = torch.cartesian_prod(*[torch.arange(-2, 3)] * 3).double()
    positions = torch.zeros(0, 3, dtype=torch.float64)
    while len(positions) < atoms:
        candidate = torch.rand(1, 3, generator=generator, dtype=torch.float64) @ cell
        if not len(positions) or (positions[:, None] + images @ cell - candidate).norm(dim=2).min() > 0.5:
            positions = torch.cat([positions, candidate])
    distances = (positions[None, :, None] + images @ cell - positions[:, None, None]).norm(dim=3)
    receivers, senders, chosen = torch.nonzero((distances < cutoff) & (distances > 0), as_tuple=True)
    starts = torch.searchsorted(receivers, torch.arange(atoms + 1))
    return Crystal(positions.to(dtype), cell.to(dtype), senders, images[chosen].to(dtype), starts)


def direct(positions: Tensor, charges: Tensor, starts: Tensor) -> Tensor:
    """The bare sum by an array of all pairs of a structure."""
    parts = [charges[:0]]
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        own = positions[begin:end]
        square = ((own[:, None] - own[None]) ** 2).sum(2)
        same = torch.eye(end - begin, dtype=torch.bool)
        parts.append(torch.where(same, torch.inf, square).rsqrt() @ charges[begin:end])
    return torch.cat(parts)


def derivatives(output: Tensor, operands: tuple[Tensor, ...], orders: int) -> list[Tensor]:
    """The output, and of every order the gradients of sums of powers of what was found before, as one vector."""
    found = [output.detach()]
    total = (output**3).sum()
    for order in range(orders):
        gradients = torch.autograd.grad(total, operands, create_graph=order + 1 < orders)
        found.append(torch.cat([each.detach().flatten() for each in gradients]))
        total = sum((each**2).sum() for each in gradients)
    return found
