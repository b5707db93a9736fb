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


def xplor_cutoff(distances: Tensor, cutoff: float, onset: float) -> Tensor:
    """Envelope that is 1 up to `onset` and falls to 0 at the cutoff, its first derivative continuous.

    The switching function of X-PLOR (Brooks et al. 1983, doi 10.1002/jcc.540040211), here from HOOMD-blue's manual:
    `(r_c² − r²)² (r_c² + 2 r² − 3 r_on²) / (r_c² − r_on²)³` between the two.

    Args:
        distances: Å, any shape.
        cutoff: r_c, Å.
        onset: r_on, Å, less than the cutoff.
    """
    # With t = (r² − r_on²) / (r_c² − r_on²), from 0 to 1, it is (1 − t)² (1 + 2 t).
    t = ((distances * distances - onset * onset) / (cutoff * cutoff - onset * onset)).clamp(0.0, 1.0)
    return (1.0 - t) ** 2 * (1.0 + 2.0 * t)


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
    """A radial basis times a cutoff function.

    Args:
        basis: "bessel" or "gaussian".
        functions: Number of basis functions.
        cutoff: Å.
        cutoff_power: p of `polynomial_cutoff`.
        cutoff_onset: Where `xplor_cutoff` sets in, Å, in place of the polynomial; None for the polynomial.
    """

    def __init__(
        self, basis: str, functions: int, cutoff: float, cutoff_power: int, cutoff_onset: float | None = None
    ) -> None:
        super().__init__()
        bases: dict[str, type[BesselBasis] | type[GaussianBasis]] = {"bessel": BesselBasis, "gaussian": GaussianBasis}
        self.basis = bases[basis](functions, cutoff)
        self.cutoff = cutoff
        self.cutoff_power = cutoff_power
        self.cutoff_onset = cutoff_onset

    def forward(self, distances: Tensor, transformed: Tensor | None = None) -> Tensor:
        """Embedding of distances [edges], as [edges, functions]; zero from the cutoff on.

        Args:
            distances: Å [edges].
            transformed: What the basis is taken of in their place, [edges].
        """
        if self.cutoff_onset is None:
            envelope = polynomial_cutoff(distances, self.cutoff, self.cutoff_power)
        else:
            envelope = xplor_cutoff(distances, self.cutoff, self.cutoff_onset)
        basis: Tensor = self.basis(distances if transformed is None else transformed)
        return basis * envelope[:, None]
