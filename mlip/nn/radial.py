"""Radial bases and the smooth cutoff."""

import math

import torch
from torch import Tensor, nn


def polynomial_cutoff(distances: Tensor, cutoff: float | Tensor, power: int) -> Tensor:
    """Envelope that is 1 at distance 0 and 0 from the cutoff on, with continuous first and second derivatives.

    Gasteiger et al. 2020 (arXiv 2003.03123), equation 8, with p = `power`.

    Args:
        distances: Å, any shape.
        cutoff: Å, a number or a tensor of the same shape.
        power: p, at least 2.
    """
    x = (distances / cutoff).clamp(max=1.0)
    # The same polynomial as (1 - x)^3 sum_k<p (k+1)(k+2)/2 x^k, all of whose terms are positive. Written out in powers
    # of x, terms of the size p^2 cancel and float32 forces lose a digit or two.
    total = torch.full_like(x, math.comb(power + 1, 2))
    for order in reversed(range(power - 1)):
        total = total * x + math.comb(order + 2, 2)
    return (1.0 - x) ** 3 * total


class BesselBasis(nn.Module):
    """`sqrt(2/r_c) sin(n pi r / r_c) / r` for n = 1 ... functions.

    Gasteiger et al. 2020 (arXiv 2003.03123), equation 7. The frequencies n are kept as a buffer of the state dict,
    since models of other packages may have trained them.
    """

    frequencies: Tensor

    def __init__(self, functions: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("frequencies", torch.arange(1.0, functions + 1.0, dtype=torch.float64))

    def forward(self, distances: Tensor) -> Tensor:
        """Basis at distances [edges], as [edges, functions]; finite at distance 0."""
        wave_numbers = self.frequencies / self.cutoff
        waves = torch.sinc(distances[:, None] * wave_numbers)
        return waves * (wave_numbers * (math.pi * math.sqrt(2.0 / self.cutoff)))


class GaussianBasis(nn.Module):
    """Gaussians at equal steps from 0 to the cutoff, their standard deviation one step."""

    def __init__(self, functions: int, cutoff: float) -> None:
        super().__init__()
        self.functions = functions
        self.cutoff = cutoff

    def forward(self, distances: Tensor) -> Tensor:
        """Basis at distances [edges], as [edges, functions]."""
        centres = torch.linspace(0.0, self.cutoff, self.functions, dtype=distances.dtype, device=distances.device)
        step = self.cutoff / max(self.functions - 1, 1)
        return torch.exp(-0.5 * ((distances[:, None] - centres) / step) ** 2)


class RadialEmbedding(nn.Module):
    """A radial basis times the polynomial cutoff.

    Args:
        basis: "bessel" or "gaussian".
        functions: Number of basis functions.
        cutoff: Å.
        cutoff_power: p of `polynomial_cutoff`.
    """

    def __init__(self, basis: str, functions: int, cutoff: float, cutoff_power: int) -> None:
        super().__init__()
        bases: dict[str, type[BesselBasis] | type[GaussianBasis]] = {"bessel": BesselBasis, "gaussian": GaussianBasis}
        self.basis = bases[basis](functions, cutoff)
        self.cutoff = cutoff
        self.cutoff_power = cutoff_power

    def forward(self, distances: Tensor) -> Tensor:
        """Embedding of distances [edges], as [edges, functions]; zero from the cutoff on."""
        envelope = polynomial_cutoff(distances, self.cutoff, self.cutoff_power)
        return self.basis(distances) * envelope[:, None]
