"""The ASE calculator: energy, forces and stress of any structure, fast from one simulation step to the next."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from mlip.calculators.born_charges import born_charges
from mlip.calculators.compiled import CompiledEvaluator
from mlip.calculators.evaluation import DEFAULT_MAX_EDGES, evaluate_structures
from mlip.calculators.hessian import hessian
from mlip.calculators.loading import compile_where_possible, load_for_inference
from mlip.calculators.prediction import StructurePrediction, has_volume, open_boundaries
from mlip.calculators.skin import SkinGraph
from mlip.data.labels import DEFAULT_KEYS, read_total_charge
from mlip.data.structures import Structure
from mlip.models import Potential
from mlip.models.compiled import CompiledPotential


class MLIPCalculator(Calculator):
    """ASE calculator of a potential: `energy`, `free_energy` (the same) and `energies` in eV, `forces` in eV/Å, and
    for periodic structures `stress` in eV/Å³ in ASE's sign and Voigt order.

    With a model that has charges also `charges` in e and, of structures that are not periodic, `dipole` in e Å about
    the origin. The total charge is `atoms.info["charge"]`, 0 by default; a model of given charges takes
    `atoms.arrays["charges"]` or ASE's initial charges.

    Args:
        model: A model file, or a `Potential`, of which the calculator keeps a copy of its own.
        device: "cpu", "cuda", "cuda:1", …; None takes the GPU if there is one.
        dtype: "float32" or "float64", the precision in which the model computes.
        skin: Å; see `mlip.calculators.skin`. It affects the speed only, not the results.
        compile: Whether to compile the model for the CPU at the first calculation, which is many times faster from then
            on; forces then differ by up to 1e-5 eV/Å. What is not compiled runs as it is: models on a GPU, with tensor
            products of other weights than "per_path", or without Numba.

    Raises:
        FileMissingError, ModelFileError: the model cannot be read.
        StructureError, UnknownElementError: from any calculation, for a structure that makes no sense or has an element
            that the model does not know.
        DataError: from any calculation, where a total charge is no number or given charges are missing.
        PropertyNotImplementedError: stress was asked for a structure without a periodic cell, or the dipole of a
            periodic one.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - ASE's name

    def __init__(
        self,
        model: str | Path | Potential,
        device: str | torch.device | None = None,
        dtype: str = "float32",
        skin: float = 0.5,
        compile: bool = True,
    ) -> None:
        super().__init__()
        # ASE's own copy of the atoms takes a tenth of the time that a molecule takes; see `atoms`.
        self.use_cache = False
        self.model = load_for_inference(model, device, dtype)
        self._charged = self.model.long_range is not None
        if self._charged:
            self.implemented_properties = [*self.implemented_properties, "charges", "dipole"]
        self._skin = skin
        self._compile = compile

    @cached_property
    def compiled(self) -> CompiledPotential | None:
        """The compiled model, or None where the model runs as it is; compiled when it is asked for first."""
        return compile_where_possible(self.model) if self._compile else None

    @cached_property
    def _evaluator(self) -> "CompiledEvaluator | _TorchEvaluator":
        if self.compiled is None:
            return _TorchEvaluator(self.model, self._skin)
        return CompiledEvaluator(self.compiled, self._skin)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which compile anew: a program works on addresses in memory."""
        return {name: value for name, value in self.__dict__.items() if name not in ("compiled", "_evaluator")}

    @property
    def atoms(self) -> Atoms | None:
        """The atoms of the last calculation, without what energies do not depend on; None before it."""
        last = self._last
        if last is None:
            return None
        info = {"charge": last.total_charge} if last.total_charge else {}
        atoms = Atoms(last.numbers, last.positions, cell=last.cell, pbc=last.pbc, info=info)
        if last.charges is not None:
            atoms.arrays["charges"] = last.charges.copy()
        return atoms

    @atoms.setter
    def atoms(self, atoms: Atoms | None) -> None:
        self._last = None if atoms is None else self._structure(atoms)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, of all that energies depend on.

        Compared bit by bit, which takes a fifth of the time of ASE's comparison: as much as a small model itself.
        """
        last = self._last
        if last is None:
            return list(all_changes)
        geometry = {
            "positions": (last.positions, atoms.positions),
            "numbers": (last.numbers, atoms.numbers),
            "cell": (last.cell, atoms.cell.array),
            "pbc": (last.pbc, atoms.pbc),
        }
        changed = [name for name, (old, new) in geometry.items() if old.tobytes() != new.tobytes()]
        if self._charged and not _same_charges(last, self._structure(atoms)):
            changed.append("initial_charges")
        return changed

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all properties that the structure has, whichever ASE asks for: one pass gives them all."""
        structure = self._structure(self.atoms if atoms is None else atoms)
        self.results = _results(self._evaluator(structure))
        self._last = structure
        if properties and "stress" in properties and "stress" not in self.results:
            raise PropertyNotImplementedError(
                f"stress needs a periodic cell with a volume, but this structure has pbc={structure.pbc.tolist()} and "
                f"the cell {structure.cell.tolist()}; set both, or do not ask for the stress."
            )
        if properties and "dipole" in properties and "dipole" not in self.results:
            raise PropertyNotImplementedError(
                f"the dipole of a periodic structure (pbc={structure.pbc.tolist()}) depends on where its cell is cut; "
                "switch pbc off, or ask for born_charges, which do not."
            )

    def hessian(self, atoms: Atoms) -> NDArray[np.float64]:
        """Second derivatives of the energy by the positions, [3N, 3N] eV/Å², ordered x0, y0, z0, x1, …

        They are exact derivatives in the calculator's dtype: take "float64" for vibrational frequencies.
        """
        return hessian(self.model, self._validated(atoms, "the structure"), DEFAULT_MAX_EDGES)

    def born_charges(self, atoms: Atoms) -> NDArray[np.float64]:
        """Born effective charges, [N, 3, 3] e: derivatives of the dipole, first axis, by each atom's position.

        Raises:
            ConfigError: the model has no charges.
        """
        return born_charges(self.model, self._validated(atoms, "the structure"), DEFAULT_MAX_EDGES)

    def evaluate(
        self, structures: Iterable[Atoms], stress: bool = True, max_edges: int = DEFAULT_MAX_EDGES
    ) -> list[dict[str, Any]]:
        """Results of many structures, computed in batches: one dictionary each, in order, as `results` of one call.

        `stress` is left out of structures without a periodic cell, or of all if False. `max_edges` bounds the batches.
        """
        stream = (self._validated(atoms, f"structure {i}") for i, atoms in enumerate(structures))
        predictions = evaluate_structures(self.compiled or self.model, stream, max_edges=max_edges, stress=stress)
        return [_results(prediction) for prediction in predictions]

    def _structure(self, atoms: Atoms) -> Structure:
        """The geometry, and charges if the model has them: what else `atoms.info` holds is none of its business."""
        geometry: dict[str, Any] = {
            "numbers": atoms.numbers.astype(np.int64),
            "positions": atoms.positions.copy(),
            "cell": atoms.cell.array.copy(),
            "pbc": atoms.pbc.copy(),
        }
        if self._charged:
            charges = atoms.arrays.get("charges", atoms.arrays.get("initial_charges"))
            geometry["charges"] = None if charges is None else charges.astype(np.float64)
            geometry["total_charge"] = read_total_charge(atoms, DEFAULT_KEYS.total_charge, "the structure")
        return Structure(**geometry)

    def _validated(self, atoms: Atoms, where: str) -> Structure:
        structure = self._structure(atoms)
        structure.validate(where)
        return structure


class _TorchEvaluator:
    """Evaluates a structure that changes little from call to call, by the model as it is."""

    def __init__(self, model: Potential, skin: float) -> None:
        self._model = model
        self._graph = SkinGraph(model.cutoff, skin, model.device)

    def __call__(self, structure: Structure) -> StructurePrediction:
        graph = self._graph.update(structure)
        stress = has_volume(structure)
        prediction = self._model(graph, forces=True, stress=stress)
        return StructurePrediction(
            structure,
            float(prediction.energy),
            prediction.energies.cpu().numpy(),
            prediction.forces.cpu().numpy(),
            prediction.stress[0].cpu().numpy() if stress else None,
            None if prediction.charges is None else prediction.charges.cpu().numpy(),
            None if prediction.dipole is None or not open_boundaries(structure) else prediction.dipole[0].cpu().numpy(),
        )


def _same_charges(first: Structure, second: Structure) -> bool:
    if first.charges is None or second.charges is None:
        same = first.charges is second.charges
    else:
        same = np.array_equal(first.charges, second.charges)
    return same and first.total_charge == second.total_charge


def _results(prediction: StructurePrediction) -> dict[str, Any]:
    results: dict[str, Any] = {
        "energy": prediction.energy,
        "free_energy": prediction.energy,
        "energies": prediction.energies,
        "forces": prediction.forces,
    }
    if prediction.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)
    if prediction.charges is not None:
        results["charges"] = prediction.charges
    if prediction.dipole is not None:
        results["dipole"] = prediction.dipole
    return results
