"""The screened nuclear repulsion against numbers worked out by hand and its limits."""

import math

import pytest
import torch
from ase.data import covalent_radii

from mlip.nn import ZBLRepulsion

# e^2 / (4 pi eps0) in eV Å and the Bohr radius in Å, CODATA 2018.
COULOMB, BOHR = 14.3996454785, 0.529177210903
HYDROGEN, OXYGEN, SILICON, CAESIUM = 1, 8, 14, 55
CUTOFF = 5.0


def pair_energy(z1: int, z2: int, distance: float) -> float:
    """Both directed edges of one pair."""
    zbl = ZBLRepulsion([z1, z2], CUTOFF)
    r = torch.full((2,), distance, dtype=torch.float64)
    return zbl(r, torch.tensor([0, 1]), torch.tensor([1, 0])).sum().item()


def by_formula(z1: int, z2: int, r: float) -> float:
    a = 0.88534 * BOHR / (z1**0.23 + z2**0.23)
    terms = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
    x = r / (covalent_radii[z1] + covalent_radii[z2])
    envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8 if x < 1 else 0.0
    return COULOMB * z1 * z2 / r * sum(c * math.exp(-d * r / a) for c, d in terms) * envelope


def test_hydrogen_pair_worked_out_by_hand() -> None:
    """H-H at 0.2 Å: a = 0.88534 · 0.529177 / 2 = 0.234251 Å, x = 0.2 / a = 0.853786,

    phi = 0.18175 e^-2.731944 + 0.50986 e^-0.804514 + 0.28022 e^-0.343990 + 0.02817 e^-0.172140
        = 0.011831 + 0.228063 + 0.198658 + 0.023715 = 0.462267, and 14.39964 eV Å / 0.2 Å · phi = 33.2824 eV;
    end at 2 · 0.31 Å, s = 0.322581, f = 1 - 28 s^6 + 48 s^7 - 21 s^8 = 1 - 0.031548 + 0.017446 - 0.002462 = 0.983436.
    """
    assert pair_energy(HYDROGEN, HYDROGEN, 0.2) == pytest.approx(33.2824 * 0.983436, rel=1e-5)


@pytest.mark.parametrize(
    ("z1", "z2"), [(HYDROGEN, HYDROGEN), (HYDROGEN, OXYGEN), (OXYGEN, SILICON), (SILICON, SILICON)]
)
@pytest.mark.parametrize("distance", [0.05, 0.3, 0.6])
def test_formula_with_codata_constants(z1: int, z2: int, distance: float) -> None:
    assert pair_energy(z1, z2, distance) == pytest.approx(by_formula(z1, z2, distance), rel=1e-6)


@pytest.mark.parametrize(("z1", "z2"), [(HYDROGEN, HYDROGEN), (OXYGEN, SILICON)])
def test_bare_coulomb_at_short_distance(z1: int, z2: int) -> None:
    """The screening's amplitudes sum to one, and its slope at zero is known."""
    a = 0.88534 * BOHR / (z1**0.23 + z2**0.23)
    slope = 0.18175 * 3.19980 + 0.50986 * 0.94229 + 0.28022 * 0.40290 + 0.02817 * 0.20162
    for distance in (1e-4, 1e-6):
        ratio = pair_energy(z1, z2, distance) * distance / (COULOMB * z1 * z2)
        assert ratio == pytest.approx(1.0 - slope * distance / a, abs=1e-6)


@pytest.mark.parametrize(("z1", "z2"), [(HYDROGEN, OXYGEN), (SILICON, SILICON)])
def test_repulsive_and_smooth_up_to_the_sum_of_the_covalent_radii(z1: int, z2: int) -> None:
    end = float(covalent_radii[z1] + covalent_radii[z2])
    zbl = ZBLRepulsion([z1, z2], CUTOFF)
    r = torch.linspace(0.01, 1.3 * end, 400, dtype=torch.float64, requires_grad=True)
    energy = zbl(r, torch.zeros(400, dtype=torch.int64), torch.ones(400, dtype=torch.int64))
    (slope,) = torch.autograd.grad(energy.sum(), r)
    inside = r.detach() < end
    assert (energy[inside] > 0).all()
    assert (slope[inside] < 0).all()
    assert not energy[~inside].any()
    assert not slope[~inside].any()
    near = torch.tensor([end - 1e-5], dtype=torch.float64, requires_grad=True)
    value = zbl(near, torch.tensor([0]), torch.tensor([1]))
    (first,) = torch.autograd.grad(value, near, create_graph=True)
    (second,) = torch.autograd.grad(first, near)
    # A zero of third order, from a curvature of hundreds of eV/Å² in the middle.
    assert value.item() < 1e-11
    assert abs(first.item()) < 1e-6
    assert abs(second.item()) < 1e-1


def test_ends_at_a_cutoff_that_is_shorter_than_the_covalent_radii() -> None:
    assert covalent_radii[CAESIUM] * 2 > 3.0
    zbl = ZBLRepulsion([CAESIUM], 3.0)
    r = torch.tensor([2.5, 3.0 - 1e-4, 3.0], dtype=torch.float64)
    zeros = torch.zeros(3, dtype=torch.int64)
    energies = zbl(r, zeros, zeros).tolist()
    assert energies[0] > 0.01
    assert 0.0 < energies[1] < 1e-9
    assert energies[2] == 0.0


def test_single_precision() -> None:
    zbl = ZBLRepulsion([HYDROGEN, OXYGEN], CUTOFF).float()
    r = torch.tensor([0.1, 0.5, 0.9])
    result = zbl(r, torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1]))
    assert result.dtype == torch.float32
    expected = [by_formula(HYDROGEN, OXYGEN, distance) / 2 for distance in (0.1, 0.5, 0.9)]
    assert result.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_derivatives() -> None:
    zbl = ZBLRepulsion([HYDROGEN, OXYGEN, SILICON], CUTOFF)
    first, second = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 2, 0])
    r = torch.tensor([0.4, 0.8, 1.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: zbl(x, first, second), r)
    assert torch.autograd.gradgradcheck(lambda x: zbl(x, first, second), r)
