"""Quadrature grids on the sphere: Gauss–Legendre nodes in cos θ times uniform nodes in φ."""

from dataclasses import dataclass
from functools import cached_property
from math import pi

import numpy as np

from mlip.errors import ConfigError
from mlip.so3.arrays import read_only


@dataclass(frozen=True)
class SphereGrid:
    """Product grid that integrates every polynomial on the sphere up to a given degree exactly.

    A product of harmonics of degrees L1, L2, … needs S = L1 + L2 + …: ⌈(S + 1)/2⌉ nodes in θ and S + 1 in φ. One node
    fewer in either aliases, with errors of 0.2–0.3. The bracket r̂·(∇Y1 × ∇Y2) Y3 loses one degree: it is exact on a
    grid of degree L1 + L2 + L3 − 1. θ is measured from the y axis, φ from z towards x, as in the harmonics of e3nn.

    Attributes:
        degree: total degree S of what is to be integrated.
        theta_count: number of nodes in θ.
        phi_count: number of nodes in φ.

    Raises:
        ConfigError: the degree is negative, or the counts are too small for it.
    """

    degree: int
    theta_count: int
    phi_count: int

    def __post_init__(self) -> None:
        theta_least, phi_least = _least_counts(self.degree)
        if self.theta_count < theta_least or self.phi_count < phi_least:
            raise ConfigError(
                f"A sphere grid of {self.theta_count} × {self.phi_count} nodes aliases at degree {self.degree}: "
                f"take at least {theta_least} in θ and {phi_least} in φ."
            )

    @cached_property
    def cos_theta(self) -> np.ndarray:
        """Gauss–Legendre nodes cos θ, ascending, `[theta_count]`."""
        return read_only(np.polynomial.legendre.leggauss(self.theta_count)[0])

    @cached_property
    def phi(self) -> np.ndarray:
        """Uniform angles from 0, radians, `[phi_count]`."""
        return read_only(np.arange(self.phi_count) * (2 * pi / self.phi_count))

    @cached_property
    def nodes(self) -> np.ndarray:
        """Unit vectors `[theta_count · phi_count, 3]`, θ outermost."""
        cos_theta = self.cos_theta[:, None]
        sin_theta = np.sqrt((1 - cos_theta) * (1 + cos_theta))
        y = np.broadcast_to(cos_theta, (self.theta_count, self.phi_count))
        return read_only(np.stack([sin_theta * np.sin(self.phi), y, sin_theta * np.cos(self.phi)], -1).reshape(-1, 3))

    @cached_property
    def weights(self) -> np.ndarray:
        """Quadrature weights `[theta_count · phi_count]`, with sum 4π."""
        theta_weights = np.polynomial.legendre.leggauss(self.theta_count)[1]
        return read_only(np.repeat(theta_weights * (2 * pi / self.phi_count), self.phi_count))


def sphere_grid(degree: int) -> SphereGrid:
    """Smallest grid that integrates every polynomial of total degree up to `degree` exactly.

    Raises:
        ConfigError: the degree is negative.
    """
    return SphereGrid(degree, *_least_counts(degree))


def _least_counts(degree: int) -> tuple[int, int]:
    if degree < 0:
        raise ConfigError(f"The degree of a sphere grid is {degree}: choose 0 or more.")
    return degree // 2 + 1, degree + 1
