"""The inference program of a network: compiled once, run with positions and pairs."""

import hashlib
import time
from dataclasses import fields, is_dataclass
from enum import Flag, auto
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlip_kernels.channelwise_convolution.cpu_plan import ConvolutionPlan
from mlip_kernels.inference.geometry import Harmonics, emit_edges, emit_forces
from mlip_kernels.inference.layers import LayerCode, LayerRole, LayerRows
from mlip_kernels.inference.memory import ARGUMENTS, Arguments, Space, Tile, Weights
from mlip_kernels.inference.pairs import Evaluation, Pairs, Response
from mlip_kernels.inference.repulsion import RepulsionCode
from mlip_kernels.inference.spec import Network
from mlip_kernels.simd.code import Code, Index, Indices, RealType
from mlip_kernels.simd.program import Phase, Program
from mlip_kernels.simd.target import host_target

# Atoms in a tile: what is wide stays in a second-level cache.
_TILE_ATOMS = 24


class _Steps(Flag):
    """What a phase does of a layer: its rows, its outputs, gradients."""

    ROWS = auto()
    OUTPUTS = auto()
    BACKWARD = auto()


class InferenceProgram:
    """Energies, forces and virial of a network, for one number type.

    Args:
        network: What to compute.
        real: "float32" or "float64".
    """

    def __init__(self, network: Network, real: RealType) -> None:
        self.network = network
        self.real: RealType = real
        target = host_target()
        lanes = target.lanes(real)
        weights = Weights(lanes)
        self._harmonics = Harmonics(network.lifts)
        scales = weights.add(network.scales)
        features = weights.add(network.features)
        repulsion = network.repulsion
        self._repulsion = None if repulsion is None else RepulsionCode(repulsion, network.cutoff, weights)
        self._layers = []
        for number, spec in enumerate(network.layers):
            plan = ConvolutionPlan(spec.convolution, lanes, target.vector_registers)
            role = LayerRole(number, number == 0, number == len(network.layers) - 1)
            self._layers.append(LayerCode(spec, network, role, plan, scales, features, weights))
        self._weights = torch.tensor(weights.joined(), dtype=getattr(torch, real))
        following = [*self._layers[1:], None]
        self._arrays: dict[str, int] = {}
        for layer, after in zip(self._layers, following, strict=True):
            self._arrays |= layer.atom_arrays(after)
        self._edge_slots = max(layer.plan.edge_slots for layer in self._layers)
        key = f"inference {_structure_hash(network)} {self._edge_slots}"
        self._program = Program("Energies and forces of a potential.", key, real, self._phases)
        self._workspace: _Workspace | None = None

    def __reduce__(self) -> tuple[type["InferenceProgram"], tuple[Network, RealType]]:
        """Copies, of other processes too, are built anew: a program holds addresses."""
        return InferenceProgram, (self.network, self.real)

    def __call__(
        self,
        positions: NDArray[np.float64],
        elements: NDArray[np.int64],
        pairs: Pairs,
        respond: Response | None = None,
    ) -> Evaluation:
        """Evaluate.

        Args:
            positions: Å, float64 [atoms, 3].
            elements: Number of each atom's element, int64 [atoms]. Atoms of one element are best next to each other.
            pairs: The same object as long as atoms, elements and pairs stay the same.
            respond: For networks with further outputs: what forces and virial have from them besides.
        """
        workspace = self._prepared(positions, elements, pairs)
        begun = 0
        if respond is not None:
            begun = len(self._layers) if self.network.further_outputs else 0
            self._program.run(workspace.addresses, workspace.tasks, 0, begun)
            workspace.of_further[:] = torch.from_numpy(respond(workspace.further.numpy().astype(np.float64)))
        self._program.run(workspace.addresses, workspace.tasks, begun)
        return Evaluation(
            workspace.energies.numpy().astype(np.float64),
            workspace.forces.sum(0),
            workspace.virials.sum(0).reshape(3, 3),
            float(workspace.nearest.min()),
        )

    @property
    def phase_names(self) -> list[str]:
        """What each phase does; layers are counted from 1."""
        last = len(self._layers)
        outputs = [f"outputs of layer {last}"] if self.network.further_outputs else []
        forward = [*(f"layer {number} forward" for number in range(1, last)), *outputs]
        return [*forward, f"layer {last}", *(f"layer {number} backward" for number in reversed(range(1, last)))]

    def phase_seconds(
        self, positions: NDArray[np.float64], elements: NDArray[np.int64], pairs: Pairs, repeats: int
    ) -> dict[str, float]:
        """Seconds of each phase, by name, from medians of so many runs that end after it.

        The arguments are those of a call.
        """
        ends = [0.0]
        for phases in range(1, len(self.phase_names) + 1):
            seconds = []
            for _ in range(repeats):
                workspace = self._prepared(positions, elements, pairs)
                start = time.perf_counter()
                self._program.run(workspace.addresses, workspace.tasks, 0, phases)
                seconds.append(time.perf_counter() - start)
            ends.append(float(np.median(seconds)))
        # A short phase may lie below the noise of the two medians.
        return {
            name: max(0.0, end - start) for name, (start, end) in zip(self.phase_names, pairwise(ends), strict=True)
        }

    def _prepared(self, positions: NDArray[np.float64], elements: NDArray[np.int64], pairs: Pairs) -> "_Workspace":
        """The arrays for a run."""
        tasks = max(1, min(torch.get_num_threads(), len(positions)))
        workspace = self._workspace
        if workspace is None or workspace.pairs is not pairs or workspace.tasks != tasks:
            # What is no longer needed goes before the new is made.
            self._workspace = None
            workspace = self._workspace = self._new_workspace(elements, pairs, tasks)
        workspace.positions[:] = positions
        workspace.forces.fill(0.0)
        workspace.virials.fill(0.0)
        workspace.nearest.fill(np.inf)
        workspace.further.zero_()
        workspace.of_further.zero_()
        return workspace

    def _new_workspace(self, elements: NDArray[np.int64], pairs: Pairs, tasks: int) -> "_Workspace":
        layers = self._layers
        return _Workspace(
            elements,
            pairs,
            tasks,
            dtype=self._weights.dtype,
            weights=self._weights,
            harmonics=self._harmonics.dim,
            edge_slots=self._edge_slots,
            scratch_columns=sum(layer.scratch_columns for layer in layers),
            edge_scalars=max(layer.edge_scalars for layer in layers),
            further_outputs=self.network.further_outputs,
            arrays=self._arrays,
        )

    # Code

    @cached_property
    def _phases(self) -> list[Phase]:
        """Forward through the layers, the last with its gradients, and back.

        Gradients that depend on further outputs have to wait for them: rows of the last layer, which a tile keeps in
        its cache, are then computed once more.
        """
        last = len(self._layers) - 1
        rest = [self._phase(number, _Steps.BACKWARD) for number in reversed(range(last))]
        if self.network.further_outputs:
            forward = [self._phase(number, _Steps.ROWS | _Steps.OUTPUTS) for number in range(last + 1)]
            return [*forward, self._phase(last, _Steps.ROWS | _Steps.BACKWARD), *rest]
        forward = [self._phase(number, _Steps.ROWS | _Steps.OUTPUTS) for number in range(last)]
        return [*forward, self._phase(last, _Steps.ROWS | _Steps.OUTPUTS | _Steps.BACKWARD), *rest]

    def _phase(self, number: int, steps: "_Steps") -> Phase:
        def emit(code: Code, given: Indices, task: Index, tasks: Index) -> None:
            if number == 0 and _Steps.OUTPUTS in steps:
                for each in self._layers:
                    each.define(code)
            space = Space(code, Arguments(given, list(self._arrays)), task, tasks)
            if number and _Steps.BACKWARD in steps:
                copy = LayerRows(self._layers[number - 1], space, _no_tile(code), self._arrays)
                size = space.arguments.count("atoms") * self._layers[number - 1].rows["sent"]
                copy.own_copy("of_sent").clear(size)
            own = space.arguments.indices("task_tiles")
            tile_starts = space.arguments.indices("tile_starts")
            with code.loop(own.get(task), own.get(task + 1)) as place:
                first = tile_starts.get(place)
                tile = Tile(place, first, tile_starts.get(place + 1) - first)
                self._emit_tile(space, tile, number, steps)

        return emit

    def _emit_tile(self, space: Space, tile: Tile, number: int, steps: "_Steps") -> None:
        layer = self._layers[number]
        rows = LayerRows(layer, space, tile, self._arrays)
        previous = LayerRows(self._layers[number - 1], space, tile, self._arrays) if number else None
        if number == 0 and _Steps.OUTPUTS in steps:
            emit_edges(space, self._harmonics, self.network.cutoff, tile, self._edge_slots, self._repulsion)
        if _Steps.ROWS in steps:
            layer.forward(space, tile, rows, previous)
        if _Steps.OUTPUTS in steps:
            layer.add_outputs(space, tile, rows)
        if _Steps.BACKWARD in steps:
            following = self._layers[number + 1] if number + 1 < len(self._layers) else None
            layer.begin_backward(space, tile, rows, residual=following is not None and following.residual is not None)
            layer.backward(space, tile, rows, previous)
            if number == 0:
                emit_forces(space, self._harmonics, tile, self._edge_slots)


class _Workspace:
    """Arrays of a program for one list of pairs, and their addresses."""

    def __init__(
        self,
        elements: NDArray[np.int64],
        pairs: Pairs,
        tasks: int,
        *,
        dtype: torch.dtype,
        weights: torch.Tensor,
        harmonics: int,
        edge_slots: int,
        scratch_columns: int,
        edge_scalars: int,
        further_outputs: int,
        arrays: dict[str, int],
    ) -> None:
        self.pairs = pairs
        self.tasks = tasks
        atoms, count = len(elements), len(pairs.senders)
        degree = max(1, int(np.diff(pairs.starts).max(initial=0)))
        tile_starts = _tile_starts(atoms, tasks)
        tile_rows = int(np.diff(tile_starts).max(initial=1))
        group_starts, groups = _groups(elements, tile_starts)
        self.positions = np.zeros((atoms, 3))
        self.forces = np.zeros((tasks, atoms, 3))
        self.virials = np.zeros((tasks, 9))
        self.nearest = np.zeros(tasks)
        self.energies = torch.zeros(atoms, dtype=dtype)
        self.further = torch.zeros(atoms, further_outputs, dtype=dtype)
        self.of_further = torch.zeros_like(self.further)
        scratch_size, edge_scratch_size = tile_rows * scratch_columns, degree * edge_scalars
        given: dict[str, int | NDArray[Any] | torch.Tensor] = {
            "atoms": atoms,
            "degree": degree,
            "tile_rows": tile_rows,
            "scratch_size": scratch_size,
            "edge_scratch_size": edge_scratch_size,
            "starts": pairs.starts,
            "senders": pairs.senders,
            "elements": elements,
            "tile_starts": tile_starts,
            "task_tiles": _task_tiles(pairs.starts, tile_starts, tasks),
            "group_starts": group_starts,
            "groups": groups,
            "kept": np.zeros(atoms, dtype=np.int64),
            "kept_senders": np.zeros(count, dtype=np.int64),
            "rows": np.zeros(tasks * 2 * degree, dtype=np.int64),
            "positions": self.positions,
            "offsets": pairs.offsets,
            "forces": self.forces,
            "virials": self.virials,
            "nearest": self.nearest,
            "weights": weights,
            "energies": self.energies,
            "further": self.further,
            "of_further": self.of_further,
            "distances": torch.zeros(count, dtype=dtype),
            "directions": torch.zeros(count * 3, dtype=dtype),
            "harmonics": torch.zeros(count * harmonics, dtype=dtype),
            "edge_sums": torch.zeros(count * edge_slots, dtype=dtype),
            "scratch": torch.zeros(tasks * scratch_size, dtype=dtype),
            "edge_scratch": torch.zeros(tasks * edge_scratch_size, dtype=dtype),
        }
        values = [given[name] for name in ARGUMENTS]
        for name, columns in arrays.items():
            copies = tasks if name.endswith("_of_sent") else 1
            values.append(torch.zeros(copies * atoms * columns, dtype=dtype))
        self._kept = values
        self.addresses = np.array([_address(each) for each in values], dtype=np.int64)


def _address(value: int | NDArray[Any] | torch.Tensor) -> int:
    if isinstance(value, torch.Tensor):
        return value.data_ptr()
    if isinstance(value, np.ndarray):
        return int(value.ctypes.data)
    return value


def _tile_starts(atoms: int, tasks: int) -> NDArray[np.int64]:
    """First atom of each tile, and their number; as many tiles for every task."""
    tiles = tasks * max(1, -(-atoms // (tasks * _TILE_ATOMS)))
    return np.linspace(0, atoms, tiles + 1).round().astype(np.int64)


def tile_order(elements: NDArray[np.int64], tasks: int) -> NDArray[np.int64]:
    """The order of atoms in which those of one element stand together in every tile, int64 [atoms]."""
    starts = _tile_starts(len(elements), tasks)
    tiles = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return np.lexsort((elements, tiles))


def _task_tiles(starts: NDArray[np.int64], tile_starts: NDArray[np.int64], tasks: int) -> NDArray[np.int64]:
    """First tile of each task, and their number, so that tasks have equal numbers of pairs."""
    pairs_before = starts[tile_starts] + np.arange(len(tile_starts))
    wanted = pairs_before[-1] * np.arange(tasks + 1) / tasks
    ends = np.searchsorted(pairs_before, wanted)
    ends[0], ends[-1] = 0, len(tile_starts) - 1
    return np.maximum.accumulate(ends).astype(np.int64)


def _groups(elements: NDArray[np.int64], tile_starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs of atoms of one element within tiles: first run of each tile, and (first atom, atoms, element) of each."""
    atoms = len(elements)
    new = np.zeros(atoms + 1, dtype=bool)
    new[tile_starts] = True
    new[1:-1] |= elements[1:] != elements[:-1]
    borders = np.flatnonzero(new)
    firsts, counts = borders[:-1], np.diff(borders)
    tiles = np.searchsorted(tile_starts, firsts, side="right") - 1
    group_starts = np.searchsorted(firsts, tile_starts)
    groups = np.stack([firsts - tile_starts[tiles], counts, elements[firsts]], 1)
    return group_starts.astype(np.int64), np.ascontiguousarray(groups, dtype=np.int64)


def _structure_hash(network: Network) -> str:
    """Names everything in a network that compiled code depends on: all but the values of weights.

    Couplings and the recursion of the harmonics are code; other arrays are data, of which only the shape matters.
    """
    digest = hashlib.sha256()

    def visit(value: Any, as_code: bool) -> None:
        if is_dataclass(value):
            digest.update(type(value).__name__.encode())
            code = as_code or type(value).__name__ in ("ConvolutionPath", "ContractionTerm")
            for item in fields(value):
                visit(getattr(value, item.name), code or item.name == "lifts")
        elif isinstance(value, tuple):
            digest.update(str(len(value)).encode())
            for each in value:
                visit(each, as_code)
        elif isinstance(value, np.ndarray):
            digest.update(str(value.shape).encode())
            if as_code:
                digest.update(np.round(value, 12).astype(np.float64).tobytes())
        else:
            digest.update(repr(value).encode())

    visit(network, False)
    return digest.hexdigest()


def _no_tile(code: Code) -> Tile:
    zero = code.index(0)
    return Tile(zero, zero, zero)
