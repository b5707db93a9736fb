"""The correction of point charges to Gaussian ones, against integrals over their densities in reciprocal space."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from mlip.electrostatics.gaussian_charges import GaussianDamping, self_potential

COULOMB = 14.399645351950548


def interaction(distance: float, first: float, second: float) -> float:
    """Energy of two unit charges with Gaussian densities of these widths, eV, by their Fourier transforms."""
    damping = 0.5 * (first**2 + second**2)
    value, _ = quad(lambda k: np.sinc(k * distance / math.pi) * math.exp(-damping * k * k), 0, 40 / math.sqrt(damping))
    return COULOMB * 2 / math.pi * value


@pytest.mark.parametrize("distance", [0.3, 1.0, 2.5])
def test_pairs_and_self_energies_are_those_of_densities(distance: float) -> None:
    charges, widths = torch.tensor([0.7, -1.2], dtype=torch.float64), torch.tensor([0.31, 0.76], dtype=torch.float64)
    edges = torch.tensor([[1, 0], [0, 1]])
    lengths = torch.full((2,), distance, dtype=torch.float64)
    point = COULOMB * charges.flip(0) / distance
    potential = point + GaussianDamping(widths, lengths, torch.ones_like(lengths), *edges).potential(charges)
    energy = 0.5 * float(charges @ potential)
    (q1, q2), (s1, s2) = charges.tolist(), widths.tolist()
    expected = q1 * q2 * interaction(distance, s1, s2)
    expected += 0.5 * (q1 * q1 * interaction(0.0, s1, s1) + q2 * q2 * interaction(0.0, s2, s2))
    assert energy == pytest.approx(expected, rel=1e-9)


def test_self_potential_is_twice_the_self_energy_of_a_unit_charge() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert float(self_potential(one, 0.5 * one)) == pytest.approx(interaction(0.0, 0.5, 0.5), rel=1e-10)
