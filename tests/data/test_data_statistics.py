"""Reference energies, statistics and splits against numbers that are known beforehand."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st

from mlip.data.dataset import GraphDataset
from mlip.data.reading import read_structures
from mlip.data.splitting import partition_indices, split_indices
from mlip.data.statistics import dataset_statistics, fit_reference_energies, isolated_atom_energies
from mlip.data.structures import Structure
from mlip.errors import ConfigError, DataError, UnknownElementError

TRUE_ENERGIES = {"H": -13.6, "C": -1029.5, "O": -2041.8}


def with_energy(atoms: Atoms, energy: float | None, forces: np.ndarray | None = None) -> Structure:
    return Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, energy=energy, forces=forces)


def composed(name: str, extra: float = 0.0) -> Structure:
    atoms = molecule(name)
    return with_energy(atoms, sum(TRUE_ENERGIES[symbol] for symbol in atoms.symbols) + extra)


def test_fit_recovers_the_energies_of_the_elements():
    structures = [composed(name) for name in ("H2O", "CH4", "CO2", "CH3CH2OH", "C6H6")]
    structures.append(with_energy(molecule("NH3"), None))  # no energy: neither used nor refused
    fitted = fit_reference_energies(structures, ["H", "C", "O"])
    assert fitted == pytest.approx(TRUE_ENERGIES, rel=1e-10)


def test_fit_of_one_composition_is_the_shortest_solution():
    fitted = fit_reference_energies([composed("H2O", 0.5), composed("H2O", -0.5)], ["H", "C", "O"])
    energy = 2 * TRUE_ENERGIES["H"] + TRUE_ENERGIES["O"]
    assert fitted == pytest.approx({"H": energy * 2 / 5, "C": 0.0, "O": energy / 5})


def test_fit_needs_energies_and_known_elements():
    with pytest.raises(DataError, match="no structure has an energy"):
        fit_reference_energies([with_energy(molecule("H2O"), None)], ["H", "O"])
    with pytest.raises(UnknownElementError, match="holds O, and the elements are H, C"):
        fit_reference_energies([composed("H2O")], ["H", "C"])


def test_isolated_atoms():
    structures = [
        with_energy(Atoms("H"), -13.6),
        with_energy(Atoms("O", cell=np.eye(3) * 20, pbc=True), -2041.8),
        with_energy(bulk("Cs", "bcc", a=6.05), -550.0),  # one atom in the cell, yet a metal
        with_energy(Atoms("C"), None),
        composed("H2O"),
        with_energy(Atoms("H"), -13.6),
    ]
    assert isolated_atom_energies(structures) == {"H": -13.6, "O": -2041.8}
    with pytest.raises(DataError, match=r"isolated atom H has two energies, -13.6 and -13.5"):
        isolated_atom_energies([*structures, with_energy(Atoms("H"), -13.5)])


def test_isolated_atoms_of_real_data(shared_data):
    energies = isolated_atom_energies(read_structures(shared_data / "acac" / "isolated_atoms.xyz"))
    assert energies == {"H": -13.568422178253735, "C": -1026.8538996116154, "O": -2037.796869412825}


def test_statistics():
    forces = np.array([[3.0, 0, 0], [0, -4, 0]])
    h2 = molecule("H2")
    structures = [
        with_energy(h2, -30.0, forces),  # -15 eV an atom
        with_energy(h2, -34.0),  # -17
        with_energy(bulk("Cu", a=3.6), None),  # 12 neighbours
    ]
    statistics = dataset_statistics(GraphDataset(structures, 3.0), {"H": -10.0})
    assert statistics.average_neighbours == pytest.approx((2 + 2 + 12) / 5)
    assert statistics.force_rms == pytest.approx((25 / 6) ** 0.5)
    assert statistics.energy_mean == pytest.approx(-6.0)
    assert statistics.energy_std == pytest.approx(1.0)


def test_statistics_without_labels():
    statistics = dataset_statistics(GraphDataset([with_energy(Atoms("H"), None)], 3.0), {})
    assert statistics == (0.0, None, None, None)


@given(st.integers(1, 300), st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 3))
def test_partitions(n, shares, seed):
    if sum(shares) == 0:
        return
    fractions = [share / sum(shares) for share in shares]
    if n * min(fraction for fraction in fractions if fraction) < 1:
        return
    parts = partition_indices(n, fractions, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - n * fraction) <= 1
        assert (np.diff(part) > 0).all()
    again = partition_indices(n, fractions, seed)
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))


def test_split_depends_on_the_seed_and_is_no_prefix():
    train, validation = split_indices(500, 0.1, seed=0)
    assert (len(train), len(validation)) == (450, 50)
    assert validation.tolist() != split_indices(500, 0.1, seed=1)[1].tolist()
    assert 50 < validation.mean() < 450
    assert validation.max() > 400
    assert len(split_indices(10, 0.0, seed=0)[1]) == 0


def test_fractions_that_make_no_sense():
    for fractions in ((0.5, 0.6), (1.5, -0.5), (0.2, 0.2)):
        with pytest.raises(ConfigError, match="add up to"):
            partition_indices(10, fractions, 0)
    with pytest.raises(ConfigError, match=r"a fraction 0.1 of 3 structures is none"):
        split_indices(3, 0.1, 0)
    with pytest.raises(ConfigError, match=r"1.2 is not between 0 and 1"):
        split_indices(3, 1.2, 0)
