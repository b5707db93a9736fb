"""A potential compiled for inference: one program gives energies, forces and stress of a structure.

The radial networks are tabulated, with as many knots as the forces need: the error that tables make is measured
against the exact model on a cluster of the model's elements when the program is made.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import ase.data
import numpy as np
import torch
from numpy.typing import NDArray

from mlip._version import __version__
from mlip.data.graphs import AtomicGraph, build_graph
from mlip.data.neighbours import NeighbourList, neighbour_list
from mlip.data.structures import Structure
from mlip.errors import ConfigError, UnknownElementError
from mlip.models.compiled_charges import ChargeResponse, Surroundings
from mlip.models.mace import Mace
from mlip.models.prediction import Prediction
from mlip.nn.contraction import SymmetricContraction
from mlip.nn.convolution import Convolution
from mlip.nn.degree_contraction import DegreeContraction
from mlip.nn.linear import ElementLinear, EquivariantLinear
from mlip.nn.summed_convolution import SummedConvolution
from mlip_kernels.backends import available_backend
from mlip_kernels.channelwise_convolution import BlockedConvolution, KernelConvolution
from mlip_kernels.inference.pairs import Evaluation, Pairs
from mlip_kernels.simd.cache import cache_folder
from mlip_kernels.symmetric_contraction import KernelContraction, MonomialContraction

if TYPE_CHECKING:
    from mlip.models.potential import Potential
    from mlip_kernels.simd.code import RealType

# Intervals between 0 and the cutoff that are tried, coarsest first.
_INTERVALS = (256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
# Each doubling of the intervals divides the error of forces by eight where radial functions are smooth.
_ORDER = 3
# Other structures may need finer tables than the probe.
_MARGIN = 2.0
_PROBE_ATOMS = 14
# Shortest distances of the probe, in sums of covalent radii: atoms with many neighbours need more room than bonds.
_PROBE_CONTACT = 1.4
# Errors of larger forces count in proportion: atoms of the probe may be far from any that the model has seen.
_ORDINARY_FORCE = 10.0  # eV/Å


@dataclass(frozen=True, eq=False)
class PotentialEvaluation(Evaluation):
    """What a compiled potential computes.

    Attributes:
        charges: e, float64 [atoms]; None if the model has none.
    """

    charges: NDArray[np.float64] | None = None


class CompiledPotential:
    """The function of a potential on the CPU, to be called with positions and pairs of atoms.

    Args:
        model: The potential, on the CPU; the program has its dtype.
        force_tolerance: Largest error of a force component that the radial tables may make, eV/Å.

    Attributes:
        config: Of the model.
        dtype: Of the program.
        intervals: Of the radial tables.
        force_error: Measured error of the tables, eV/Å.
        program: What was compiled.

    Raises:
        ConfigError: the model cannot be compiled, which `why_not_compiled` tells before, or no table is fine enough.
    """

    def __init__(self, model: "Potential", force_tolerance: float = 1e-5) -> None:
        refusal = why_not_compiled(model)
        if refusal is not None:
            raise ConfigError(refusal)
        # What needs numba is imported where it is known to be there.
        from mlip.models.network_spec import describe
        from mlip_kernels.inference.program import InferenceProgram
        from mlip_kernels.simd.target import host_target

        self.config = model.config
        self.dtype = model.dtype
        self._element_of_number = model.element_of_atomic_number.numpy()
        self._constants = (model.reference_energies.values + model.shift.double()).numpy()
        self._long_range = deepcopy(model.long_range)
        exact = _without_kernels(deepcopy(model)).to(torch.float64).eval()
        real: RealType = "float32" if model.dtype == torch.float32 else "float64"
        lanes = host_target().lanes(real)
        self.intervals, self.force_error = _fine_enough(exact, force_tolerance)
        network = describe(exact, self.intervals, lanes)
        self.program = InferenceProgram(network, real)

    @property
    def elements(self) -> list[str]:
        """Chemical symbols of the elements that the model knows."""
        return self.config.elements

    @property
    def cutoff(self) -> float:
        """Distance up to which atoms see each other, Å."""
        return self.config.cutoff

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def element_indices(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of each atom's element in `elements`, int64 [atoms].

        Raises:
            UnknownElementError: the model was not built for one of them.
        """
        indices: NDArray[np.int64] = self._element_of_number[numbers]
        if (indices < 0).any():
            unknown = sorted({ase.data.chemical_symbols[z] for z in numbers[indices < 0]})
            raise UnknownElementError(
                f"the structure holds {', '.join(unknown)}, which the model was not trained for; "
                f"it knows {', '.join(self.elements)}."
            )
        return indices

    def order(self, elements: NDArray[np.int64]) -> NDArray[np.int64]:
        """The order of atoms, given their elements, in which the program is fastest, int64 [atoms]."""
        from mlip_kernels.inference.program import tile_order

        return tile_order(elements, torch.get_num_threads())

    def evaluate(
        self,
        positions: NDArray[np.float64],
        elements: NDArray[np.int64],
        pairs: Pairs,
        surroundings: Surroundings | None = None,
    ) -> PotentialEvaluation:
        """Energies, reference energies included, forces and virial, and charges.

        Args:
            positions: Å, float64 [atoms, 3].
            elements: As `element_indices` gives them, int64 [atoms].
            pairs: All pairs nearer than the cutoff, and others: those beyond it are left out. The same object as long
                as the pairs and elements stay the same.
            surroundings: For models with charges: the cell, which pairs must agree with, and the total charge.

        Raises:
            DataError, StructureError: from the electrostatics of `long_range`.
        """
        response = None
        if self._long_range is not None:
            response = ChargeResponse(self._long_range, positions, elements, pairs, surroundings or Surroundings())
        return _evaluation(self.program(positions, elements, pairs, response), self._constants[elements], response)

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        """The function of `Potential.forward`, without autograd; structures of a batch one after another."""
        starts = graph.ptr.tolist() if "ptr" in graph else [0, graph.num_nodes]
        senders, receivers = (each.numpy() for each in graph.edge_index)
        borders = np.searchsorted(receivers, starts)
        predictions = []
        for number, (first, last) in enumerate(pairwise(starts)):
            edges = slice(borders[number], borders[number + 1])
            pairs = Pairs(
                np.searchsorted(receivers[edges], np.arange(first, last + 1)).astype(np.int64),
                np.ascontiguousarray(senders[edges] - first),
                np.ascontiguousarray(graph.edge_offsets[edges].numpy()),
            )
            elements = self.element_indices(graph.atomic_numbers[first:last].numpy())
            positions, cell = graph.positions[first:last].detach().numpy(), graph.cell[number].numpy()
            surroundings = Surroundings(
                cell, graph.pbc[number].numpy(), float(graph.total_charge[number]), graph.charges[first:last].numpy()
            )
            result = self.evaluate(positions, elements, pairs, surroundings)
            predictions.append(_prediction(result, positions, cell, forces, stress))
        fields = zip(*predictions, strict=True)
        return Prediction._make(None if parts[0] is None else torch.cat(parts) for parts in fields)


def why_not_compiled(model: "Potential") -> str | None:
    """Why a potential cannot be compiled, or None if it can."""
    if model.device.type != "cpu":
        return f"the model is on the device '{model.device}' and programs are compiled for the CPU: move it there."
    if available_backend("cpu") != "cpu":
        return "models are compiled by numba, which is not installed or switched off by MLIP_KERNELS: change that."
    if isinstance(model.network, Mace) and model.network.transform is not None:
        return (
            "the model's radial functions depend on the elements of a pair ('distance_transform'), which is not "
            "compiled: evaluate it as it is."
        )
    if any(isinstance(part, SummedConvolution | DegreeContraction) for part in model.network.modules()):
        return (
            "the model's tensor products have other weights than 'per_path', which are not compiled: evaluate it as it "
            "is."
        )
    return None


def _without_kernels(model: "Potential") -> "Potential":
    """The model on plain torch: kernels in double precision would be compiled for a few evaluations only."""
    for part in model.network.modules():
        if isinstance(part, Convolution) and isinstance(part.operation, KernelConvolution):
            part.operation = BlockedConvolution(part.table)
        elif isinstance(part, SymmetricContraction) and isinstance(part.operation, KernelContraction):
            part.operation = MonomialContraction(part.table)
        elif isinstance(part, EquivariantLinear | ElementLinear):
            part.kernel = None
    return model


def _evaluation(
    result: Evaluation, constants: NDArray[np.float64], response: ChargeResponse | None
) -> PotentialEvaluation:
    """What a program found, with constants of the atoms and the electrostatics."""
    energies, forces, virial = result.energies + constants, result.forces, result.virial
    if response is None:
        return PotentialEvaluation(energies, forces, virial, result.nearest)
    return PotentialEvaluation(
        energies + response.energies,
        forces + response.forces,
        virial + response.virial,
        result.nearest,
        response.charges,
    )


def _prediction(
    result: PotentialEvaluation,
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    forces: bool,
    stress: bool,
) -> Prediction:
    energies = torch.from_numpy(result.energies)
    charges = None if result.charges is None else torch.from_numpy(result.charges)
    return Prediction(
        energies.sum().reshape(1),
        energies,
        torch.from_numpy(result.forces) if forces else None,
        torch.from_numpy(stress_from_virial(result.virial, cell))[None] if stress else None,
        charges,
        None if charges is None else (charges @ torch.from_numpy(positions))[None],
    )


def stress_from_virial(virial: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stress, eV/Å³ [3, 3], zero for a cell without volume."""
    volume = abs(np.linalg.det(cell))
    if volume == 0.0:
        return np.zeros((3, 3))
    stress: NDArray[np.float64] = (virial + virial.T) / (2.0 * volume)
    return stress


# The error of tables


def _fine_enough(model: "Potential", tolerance: float) -> tuple[int, float]:
    """The fewest intervals with which forces on the probe keep the tolerance, and the error that they make.

    What was measured is kept on disk beside the compiled programs, by the weights.

    Raises:
        ConfigError: no number of intervals that is tried suffices.
    """
    measured = _Measurements(model)
    intervals = _INTERVALS[0]
    while True:
        error = measured.error(intervals)
        if error * _MARGIN <= tolerance:
            return intervals, error
        # Those that cannot suffice are not tried.
        hopeful = intervals * (error * _MARGIN / tolerance) ** (1 / _ORDER)
        finer = [each for each in _INTERVALS if each > intervals]
        if not finer:
            break
        intervals = next((each for each in finer if each >= hopeful), finer[-1])
    raise ConfigError(
        f"with {intervals} intervals in the radial tables forces are still wrong by {error:.1e} eV/Å, more than the "
        f"{tolerance:.1e} allowed: allow more, or evaluate the model as it is."
    )


class _Measurements:
    """Errors of forces on a probe, by the number of intervals."""

    def __init__(self, model: "Potential") -> None:
        self._model = model
        from mlip.models import network_spec
        from mlip_kernels.simd.program import package_hash

        probe = (_PROBE_ATOMS, _PROBE_CONTACT, _ORDINARY_FORCE)
        digest = hashlib.sha256(f"{__version__} {package_hash()} {probe} {model.config.model_dump_json()}".encode())
        digest.update(Path(network_spec.__file__).read_bytes())
        for name, values in sorted(model.state_dict().items()):
            digest.update(name.encode() + values.contiguous().numpy().tobytes())
        self._path = cache_folder() / f"radial_tables_{digest.hexdigest()[:32]}.json"
        self._known: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = {str(key): float(value) for key, value in json.loads(self._path.read_text()).items()}

    def error(self, intervals: int) -> float:
        """Largest difference of a force component between the exact model and tables, eV/Å.

        Where the largest force is beyond 10 eV/Å it is scaled down to that.
        """
        if str(intervals) not in self._known:
            self._known[str(intervals)] = self._measured(intervals)
            self._write()
        return self._known[str(intervals)]

    def _measured(self, intervals: int) -> float:
        from mlip.models.network_spec import describe
        from mlip_kernels.inference import reference

        structure, exact = self._exact
        elements = self._model.element_indices(torch.tensor(structure.numbers)).numpy()
        near = neighbour_list(structure.positions, structure.cell, structure.pbc, self._model.cutoff)
        pairs = make_pairs(near, structure.cell, len(elements))
        response = None
        if self._model.long_range is not None:
            around = Surroundings(charges=structure.charges)
            response = ChargeResponse(self._model.long_range, structure.positions, elements, pairs, around)
        network = describe(self._model, intervals, lanes=1)
        tabulated = reference.evaluate(network, structure.positions, elements, pairs, response)
        forces = tabulated.forces if response is None else tabulated.forces + response.forces
        excess = max(1.0, float(np.abs(exact).max()) / _ORDINARY_FORCE)
        return float(np.abs(forces - exact).max()) / excess

    @cached_property
    def _exact(self) -> tuple[Structure, NDArray[np.float64]]:
        """The probe, and the exact model's forces on it."""
        structure = _probe(self._model.elements)
        forces = self._model(build_graph(structure, self._model.cutoff)).forces
        return structure, forces.detach().numpy()

    def _write(self) -> None:
        # Where the folder cannot be written to, the next process measures again.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=self._path.parent, suffix=".part")
            with os.fdopen(handle, "w") as stream:
                json.dump(self._known, stream)
            os.replace(beside, self._path)


def _probe(symbols: list[str]) -> Structure:
    """A cluster of the model's elements, packed at random in a ball."""
    generator = np.random.default_rng(0)
    known = np.array([ase.data.atomic_numbers[symbol] for symbol in symbols])
    numbers = np.resize(generator.permutation(known), _PROBE_ATOMS)
    radii = ase.data.covalent_radii[numbers]
    positions = np.zeros((1, 3))
    ball = 0.0
    while len(positions) < _PROBE_ATOMS:
        # The ball grows until the next atom finds a place.
        ball += 0.02
        direction = generator.normal(size=3)
        place = ball * generator.uniform() ** (1 / 3) * direction / np.linalg.norm(direction)
        contacts = _PROBE_CONTACT * (radii[: len(positions)] + radii[len(positions)])
        if (np.linalg.norm(positions - place, axis=1) >= contacts).all():
            positions = np.vstack([positions, place])
            ball = max(0.0, ball - 0.5)
    # Models of given charges want some; they do not matter to tables.
    return Structure(numbers, positions, charges=np.zeros(_PROBE_ATOMS))


def make_pairs(neighbours: NeighbourList, cell: NDArray[np.float64], atoms: int) -> Pairs:
    """The pairs of a neighbour list."""
    starts = np.searchsorted(neighbours.receivers, np.arange(atoms + 1)).astype(np.int64)
    return Pairs(starts, neighbours.senders, neighbours.shifts @ cell)
