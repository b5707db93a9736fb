"""The checkpoints in the wheel of `sevenn`, where it is at hand, against what the package computes with them.

It is at hand where it is installed beside this package, or where MLIP_SEVENN names the folder of its modules.
"""

import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlip import MLIPCalculator
from mlip.errors import CheckpointError
from mlip.interop import import_checkpoint
from mlip.models import Potential

REFERENCES = json.loads((Path(__file__).parent / "data" / "sevennet_wheel.json").read_text())["models"]
# Of the package's own comparison: eV per atom, eV/Å, eV/Å³.
SINGLE = {"energy": 1e-5, "forces": 1e-4, "stress": 1e-5}


def package_folder() -> Path | None:
    """The folder of sevenn's modules, found without importing any."""
    if "MLIP_SEVENN" in os.environ:
        return Path(os.environ["MLIP_SEVENN"])
    spec = importlib.util.find_spec("sevenn")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


FOLDER = package_folder()
pytestmark = pytest.mark.skipif(FOLDER is None, reason="the wheel of sevenn is not here; MLIP_SEVENN may name it")


def checkpoint(name: str) -> Path:
    assert FOLDER is not None
    (path,) = (FOLDER / "pretrained_potentials" / name).glob("*.pth")
    return path


@cache
def imported(name: str) -> Potential:
    return import_checkpoint(checkpoint(name))


def calculated(name: str, results: dict[str, Any], dtype: str) -> Atoms:
    atoms = Atoms(results["numbers"], results["positions"], cell=results["cell"], pbc=results["pbc"])
    atoms.calc = MLIPCalculator(imported(name), dtype=dtype, compile=False)
    return atoms


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", REFERENCES)
def test_double_precision(name: str, number: int) -> None:
    results = REFERENCES[name][number]
    atoms = calculated(name, results, "float64")
    np.testing.assert_allclose(atoms.get_potential_energies(), results["energies"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), results["forces"], rtol=0, atol=1e-10)
    if "stress" in results:
        np.testing.assert_allclose(atoms.get_stress(), results["stress"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", REFERENCES)
def test_single_precision(name: str, number: int) -> None:
    results = REFERENCES[name][number]
    atoms = calculated(name, results, "float32")
    assert abs(atoms.get_potential_energy() - results["energy"]) / len(atoms) < SINGLE["energy"]
    np.testing.assert_allclose(atoms.get_forces(), results["forces"], rtol=0, atol=SINGLE["forces"])
    if "stress" in results:
        np.testing.assert_allclose(atoms.get_stress(), results["stress"], rtol=0, atol=SINGLE["stress"])


def test_a_model_of_several_modalities_is_refused() -> None:
    with pytest.raises(CheckpointError, match="use_modality: True"):
        import_checkpoint(checkpoint("SevenNet_MF_0"))
