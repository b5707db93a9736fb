"""What a user can get wrong, each with a sentence that says so."""

import warnings
from typing import Any

import pytest
import torch
from systems import SKEWED, random_charges

from mlip.electrostatics import CoulombSolver
from mlip.errors import ConfigError, StructureError

FLAT = torch.tensor([[5.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 5.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": 0.1}, "tolerance is 0.1"),
        ({"tolerance": 1e-14}, "tolerance is 1e-14"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"cutoff": 0.0}, "cutoff is 0.0"),
        ({"cutoff": float("inf")}, "cutoff is inf"),
        ({"method": "pme"}, "no method 'pme'"),
        ({"memory": 0}, "memory is 0 bytes"),
    ],
)
def test_bad_options(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CoulombSolver(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"charges": torch.zeros(3)}, r"Charges have the shape \[3\] for 8 positions"),
        ({"charges": torch.full((8,), torch.nan)}, r"Charge 0 is \(nan\)"),
        ({"positions": torch.full((8, 3), torch.inf)}, r"Position 0 is \(inf, inf, inf\)"),
        ({"positions": torch.zeros(8, 2)}, r"Positions have the shape \[8, 2\]"),
        ({"cell": FLAT, "pbc": True}, "periodic along a and b and c, and its cell .* is singular"),
        ({"cell": FLAT, "pbc": [True, True, False]}, "periodic along a and b, and its cell .* is singular"),
        ({"cell": torch.full((3, 3), torch.nan), "pbc": True}, "singular"),
        ({"cell": torch.zeros(2, 3)}, r"The cell has the shape \[2, 3\]"),
        ({"pbc": True}, "there is no cell"),
        ({"cell": SKEWED, "pbc": [True, False]}, r"pbc has the shape \[2\]"),
        ({"cell": torch.stack([SKEWED, SKEWED])}, "2 cells and no batch"),
        ({"batch": torch.tensor([0, 0, 1, 1, 0, 0, 0, 0])}, "does not ascend"),
        ({"batch": torch.zeros(5, dtype=torch.int64)}, r"The batch has the shape \[5\]"),
        ({"excluded_pairs": torch.tensor([[0, 8]])}, "name charges 0 to 8"),
        ({"excluded_pairs": torch.tensor([[3, 3]])}, r"pair \(3, 3\)"),
        ({"excluded_pairs": torch.tensor([0, 1])}, r"Excluded pairs have the shape \[2\]"),
    ],
)
def test_bad_systems(changes: dict[str, Any], message: str) -> None:
    positions, charges = random_charges(8, 51)
    arguments = {"positions": positions, "charges": charges} | changes
    with pytest.raises(StructureError, match=message):
        CoulombSolver()(**arguments)


@pytest.mark.parametrize("pbc", [[False] * 3, [True, False, False], [True] * 3])
@pytest.mark.parametrize("method", ["auto", "chebyshev_tucker"])
def test_coinciding_charges(pbc: list[bool], method: str) -> None:
    positions, charges = random_charges(8, 52, SKEWED)
    positions[6] = positions[2] + (SKEWED[0] if pbc[0] else 0)
    with pytest.raises(StructureError, match="Charges 2 and 6 are at the same place"):
        CoulombSolver(method=method)(positions, charges, SKEWED, pbc)  # type: ignore[arg-type]


def test_equal_places_in_two_structures_do_not_coincide() -> None:
    positions, charges = random_charges(4, 53)
    CoulombSolver()(positions.repeat(2, 1), charges.repeat(2), batch=torch.arange(2).repeat_interleave(4))


@pytest.mark.parametrize("pbc", [[True, True, False], [False, True, False]])
def test_charged_slabs_and_wires(pbc: list[bool]) -> None:
    positions, charges = random_charges(8, 54, SKEWED, total=1.0)
    with pytest.raises(StructureError, match="total charge of 1 e and is periodic along"):
        CoulombSolver()(positions, charges, SKEWED, pbc)


def test_charged_cells_warn_once() -> None:
    positions, charges = random_charges(8, 55, SKEWED, total=1.0)
    solver = CoulombSolver()
    with pytest.warns(UserWarning, match="total charge of 1 e in a periodic cell"):
        solver(positions, charges, SKEWED, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solver(positions, charges, SKEWED, True)
        CoulombSolver()(positions, charges)
        # Rounding, of charges that are next to none, is no charge.
        CoulombSolver()(positions, 1e-20 * charges, SKEWED, True)


def test_methods_that_do_not_suit() -> None:
    positions, charges = random_charges(8, 56, SKEWED)
    with pytest.raises(StructureError, match="'direct' is for open structures"):
        CoulombSolver(method="direct")(positions, charges, SKEWED, True)
    with pytest.raises(StructureError, match="'ewald' is for structures that are periodic in all directions"):
        CoulombSolver(method="ewald")(positions, charges)


def test_a_box_that_is_too_large_says_what_it_would_take() -> None:
    positions, charges = random_charges(8, 57)
    positions[0] += 1e4
    with pytest.raises(StructureError, match=r"would take [0-9.e+]+ GiB and 1 GiB are"):
        CoulombSolver(1e-6, method="chebyshev_tucker", memory=2**30)(positions, charges)
    with pytest.raises(StructureError, match="would take"):
        CoulombSolver(memory=2**20).plan(40 * torch.eye(3), True, 5000)


def test_plans_of_nothing() -> None:
    with pytest.raises(StructureError, match="0 charges"):
        CoulombSolver().plan(SKEWED, True, 0)
    with pytest.raises(StructureError, match="singular"):
        CoulombSolver().plan(FLAT, [False] * 3, 10)


def test_arrays_of_other_kinds_are_refused() -> None:
    positions, charges = random_charges(4, 57)
    with pytest.raises(StructureError, match="Positions are of the type ndarray: give tensors"):
        CoulombSolver()(positions.numpy(), charges)
    with pytest.raises(StructureError, match="Charges are of the type list"):
        CoulombSolver()(positions, charges.tolist())


def test_pairs_that_take_too_much_memory_want_a_shorter_cutoff() -> None:
    solver = CoulombSolver(1e-4, cutoff=30.0, method="chebyshev_tucker", memory=1e8)
    with pytest.raises(StructureError, match="raise the memory or lower the cutoff"):
        solver.plan(30 * torch.eye(3), True, 20_000)
