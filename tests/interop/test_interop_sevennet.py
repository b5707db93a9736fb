"""SevenNet checkpoints against what the package itself computes, by `scripts/make_sevennet_reference.py`."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlip import MLIPCalculator
from mlip.interop.sevennet import is_sevennet, read_sevennet
from mlip.interop.unpickling import read_checkpoint
from mlip.models import NequIPConfig, Potential

DATA = Path(__file__).parent / "data"
MODELS = ["early", "parity", "mixed"]
MOLECULE, ATOM, CRYSTAL = range(3)


@cache
def checkpoint(name: str) -> dict[str, Any]:
    content: dict[str, Any] = read_checkpoint(DATA / f"sevennet_{name}.pth")
    return content


@cache
def imported(name: str) -> Potential:
    return read_sevennet(checkpoint(name))


@cache
def expected(name: str, number: int) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((DATA / "sevennet_small.json").read_text())["models"][name][number]
    return results


def structure(results: dict[str, Any], model: Potential) -> Atoms:
    """The structure that results belong to, with a calculator."""
    atoms = Atoms(results["numbers"], results["positions"], cell=results["cell"], pbc=results["pbc"])
    atoms.calc = MLIPCalculator(model, dtype="float64", compile=False)
    return atoms


def changed(name: str, **config: Any) -> dict[str, Any]:
    """A checkpoint with other keys in its configuration."""
    content = checkpoint(name)
    return {**content, "config": {**content["config"], **config}}


@pytest.mark.parametrize("number", [MOLECULE, ATOM, CRYSTAL])
@pytest.mark.parametrize("name", MODELS)
def test_energies_and_forces_are_the_packages(name: str, number: int) -> None:
    results = expected(name, number)
    atoms = structure(results, imported(name))
    np.testing.assert_allclose(atoms.get_potential_energies(), results["energies"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(atoms.get_potential_energy(), results["energy"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), results["forces"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_stress_is_the_packages(name: str) -> None:
    results = expected(name, CRYSTAL)
    atoms = structure(results, imported(name))
    np.testing.assert_allclose(atoms.get_stress(), results["stress"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_a_subset_of_the_elements_leaves_the_others_as_they_were(name: str) -> None:
    model = read_sevennet(checkpoint(name), ["O", "H"])
    assert model.elements == ["H", "O"]
    assert sum(each.numel() for each in model.parameters()) < sum(each.numel() for each in imported(name).parameters())
    atoms = Atoms("OHH", [[0.0, 0.0, 0.1], [0.8, 0.1, -0.5], [-0.7, 0.0, -0.4]])
    energies = []
    for each in (model, imported(name)):
        atoms.calc = MLIPCalculator(each, dtype="float64", compile=False)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-12)


def test_configurations_say_what_the_checkpoints_hold() -> None:
    options = {
        "early": ("SO3", "shared", True, 3.0, 2, "6x0e+4x1e+3x2e"),
        "parity": ("O3", "per_element", False, None, 2, "3x0o+3x0e+3x1o+3x1e"),
        "mixed": ("O3", "per_element", False, 3.5, 2, "5x0e+3x1o+2x1e+2x2e"),
    }
    for name, expected_options in options.items():
        config = imported(name).config
        assert isinstance(config, NequIPConfig)
        found = (config.symmetry, config.self_connection, config.solid_harmonics, config.cutoff_onset)
        assert (*found, config.l_max, config.hidden_irreps) == expected_options
    assert imported("early").provenance == {"package": "sevenn 0.9.1"}


def test_the_references_tell_the_options_apart() -> None:
    """Each of the options changes the energy, so that none could be ignored."""
    results = expected("early", MOLECULE)
    for option in ({"cutoff_function": {"cutoff_function_name": "poly_cut"}}, {"_normalize_sph": True}):
        atoms = structure(results, read_sevennet(changed("early", **option)))
        assert abs(atoms.get_potential_energy() - results["energy"]) > 1e-3
    unsigned = copy.deepcopy(checkpoint("early"))
    for key in [key for key in unsigned["model_state_dict"] if "_w3j_" in key]:
        del unsigned["model_state_dict"][key]
    atoms = structure(results, read_sevennet(unsigned))
    assert abs(atoms.get_potential_energy() - results["energy"]) > 1e-5
    atoms = structure(expected("parity", MOLECULE), read_sevennet(changed("parity", version="0.11.0")))
    assert abs(atoms.get_potential_energy() - expected("parity", MOLECULE)["energy"]) > 1e-3


def test_development_versions_of_0_11_have_the_old_order_of_columns() -> None:
    results = expected("parity", MOLECULE)
    atoms = structure(results, read_sevennet(changed("parity", version="0.11.0.dev0")))
    assert atoms.get_potential_energy() == pytest.approx(results["energy"], abs=1e-10)


def test_what_is_a_sevennet_checkpoint() -> None:
    assert all(is_sevennet(checkpoint(name)) for name in MODELS)
    for other in (None, [], {"config": {}}, {"model_state_dict": {}}, {"model_state_dict": {}, "config": {}}):
        assert not is_sevennet(other)
