"""A potential: a network with reference energies, forces and stress around it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import ase.data
import torch
from torch import Tensor, nn

from mlip.data.graphs import AtomicGraph
from mlip.errors import ConfigError, UnknownElementError
from mlip.models.config import MaceConfig, NequIPConfig
from mlip.models.network import Network
from mlip.models.prediction import Prediction
from mlip.nn import ElementGroups, ZBLRepulsion
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.segment_sum import segment_sum
from mlip_kernels.wanted import only

if TYPE_CHECKING:
    from mlip.models.compiled import CompiledPotential


class AtomicEnergies(nn.Module):
    """Reference energy of each element, eV, in float64 whatever the dtype of the network: they reach 1e5 eV."""

    values: Tensor

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(values, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = self.values
        module: Any = super()._apply(fn, recurse)
        self.values = exact.to(self.values.device)
        return module

    def forward(self, elements: Tensor) -> Tensor:
        """Reference energies of atoms whose elements have these numbers, int64 [nodes]."""
        return self.values[elements]


class Potential(nn.Module):
    """Energy of an atomic structure, with forces and stress as its exact derivatives.

    The energy is a sum over atoms of `reference energy + scale * network + shift`, and of the ZBL repulsion if chosen,
    which in mace-torch's form is scaled as well.
    It depends on positions through the edge vectors alone. Its gradient with respect to them gives the forces by two
    sums over edges and the stress by one, since under a strain every edge vector v becomes v + strain v.

    Args:
        config: Hyper-parameters, the elements given.
        network: The architecture's network.

    Attributes:
        provenance: What the model was trained on, as stored in its file; empty for a new model.
    """

    def __init__(self, config: MaceConfig | NequIPConfig, network: Network) -> None:
        super().__init__()
        if not config.elements:
            raise ConfigError("the model has no elements; give 'elements', for example [H, C, O].")
        self.config = config
        self.network = network
        self.provenance: dict[str, Any] = {}
        atomic_numbers = [int(ase.data.atomic_numbers[symbol]) for symbol in config.elements]
        self.reference_energies = AtomicEnergies([config.reference_energies.get(e, 0.0) for e in config.elements])
        self.register_buffer("scale", _per_element(config.scale, config.elements, "scale"))
        self.register_buffer("shift", _per_element(config.shift, config.elements, "shift"))
        self.zbl = None
        if config.zbl:
            power = {"power": config.cutoff_power} if config.zbl_form == "mace" else {}
            self.zbl = ZBLRepulsion(atomic_numbers, config.cutoff, config.zbl_form, **power)
        numbers = torch.full((len(ase.data.chemical_symbols),), -1)
        numbers[atomic_numbers] = torch.arange(len(atomic_numbers))
        self.register_buffer("element_of_atomic_number", numbers, persistent=False)

    scale: Tensor
    shift: Tensor
    element_of_atomic_number: Tensor

    @property
    def elements(self) -> list[str]:
        """Chemical symbols of the elements that the model knows."""
        return self.config.elements

    @property
    def cutoff(self) -> float:
        """Distance up to which atoms see each other, Å."""
        return self.config.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.scale.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.scale.device

    def element_indices(self, atomic_numbers: Tensor) -> Tensor:
        """Number of each atom's element in `elements`, int64 [nodes].

        Raises:
            UnknownElementError: the model was not built for one of them.
        """
        indices = self.element_of_atomic_number[atomic_numbers]
        if bool((indices < 0).any()):
            unknown = sorted({ase.data.chemical_symbols[int(z)] for z in atomic_numbers[indices < 0]})
            raise UnknownElementError(
                f"the structure holds {', '.join(unknown)}, which the model was not trained for; "
                f"it knows {', '.join(self.elements)}."
            )
        return indices

    def compile_for_inference(self, force_tolerance: float = 1e-5) -> "CompiledPotential":
        """The potential as one program for the CPU, many times faster than the modules.

        The program is compiled for this machine once and kept in the user's cache.

        Args:
            force_tolerance: Largest error of a force component, eV/Å, that tables of the radial functions may make.

        Raises:
            ConfigError: this potential is not compiled, or no table is fine enough.
        """
        from mlip.models.compiled import CompiledPotential

        return CompiledPotential(self, force_tolerance)

    def forward(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        """Compute the energy and, where asked for, its derivatives.

        In training mode the results keep their graph, so that a loss on forces can be differentiated; in evaluation
        mode they keep it only where `graph.positions` requires a gradient.

        Args:
            graph: One structure, or several batched by torch-geometric, edges sorted by receiver.
            forces: Whether to compute forces.
            stress: Whether to compute the stress.

        Raises:
            UnknownElementError: the graph holds an element that the model was not built for.
        """
        differentiable = self.training or graph.positions.requires_grad
        with torch.set_grad_enabled(differentiable or forces or stress):
            senders, receivers = graph.edge_index
            edges = EdgeTopology(senders, receivers, graph.positions.shape[0])
            vectors = graph.positions[senders] + graph.edge_offsets - graph.positions[receivers]
            if not vectors.requires_grad:
                vectors.requires_grad_(forces or stress)
            structures = graph.batch
            if structures is None:
                structures = torch.zeros_like(graph.atomic_numbers)
            num_structures = graph.cell.shape[0]
            energies = self._energies(graph.atomic_numbers, vectors, edges)
            energy = segment_sum(energies, structures, num_structures)
            if not (forces or stress):
                return Prediction(energy, energies, None, None)
            with only("positions"):
                (gradient,) = torch.autograd.grad(energies.sum(), vectors, create_graph=differentiable)
            force = None
            if forces:
                pulls = segment_sum(gradient, receivers, edges.num_nodes)
                force = pulls - segment_sum(gradient, senders, edges.num_nodes)
            virial = _stress(gradient, vectors, structures[receivers], graph.cell) if stress else None
        if not differentiable:
            energy, energies = energy.detach(), energies.detach()
            virial = None if virial is None else virial.detach()
        return Prediction(energy, energies, force, virial)

    def _energies(self, atomic_numbers: Tensor, vectors: Tensor, edges: EdgeTopology) -> Tensor:
        """Energy of each atom, eV, float64 [nodes]."""
        groups = ElementGroups.from_elements(self.element_indices(atomic_numbers), len(self.elements))
        elements = groups.elements
        output = self.network(vectors.to(self.dtype), edges, groups)
        if self.zbl is not None and self.config.zbl_form == "mace":
            output = output + self._repulsion(self.zbl, vectors, elements, edges)
        energies = (self.scale[elements] * output + self.shift[elements]).to(torch.float64)
        if self.zbl is not None and self.config.zbl_form == "universal":
            energies = energies + self._repulsion(self.zbl, vectors, elements, edges)
        return energies + self.reference_energies(elements)

    def _repulsion(self, zbl: ZBLRepulsion, vectors: Tensor, elements: Tensor, edges: EdgeTopology) -> Tensor:
        """Share of each atom in the nuclear repulsion, eV, float64 [nodes]."""
        lengths = torch.linalg.vector_norm(vectors, dim=1).to(self.dtype)
        repulsion = zbl(lengths, elements[edges.senders], elements[edges.receivers])
        return segment_sum(repulsion.to(torch.float64), edges.receivers, edges.num_nodes)


def _stress(gradient: Tensor, vectors: Tensor, structures: Tensor, cell: Tensor) -> Tensor:
    """Stress from the energy's gradient with respect to the edge vectors, [structures, 3, 3]."""
    strain_gradient = segment_sum(vectors[:, :, None] * gradient[:, None, :], structures, cell.shape[0])
    strain_gradient = (strain_gradient + strain_gradient.transpose(1, 2)) / 2.0
    volume = torch.linalg.det(cell).abs()[:, None, None]
    return torch.where(volume > 0.0, strain_gradient / volume.clamp(min=torch.finfo(volume.dtype).tiny), 0.0)


def _per_element(value: float | dict[str, float], elements: list[str], name: str) -> Tensor:
    """One number per element from a common one or a table, in float64 so that a change of dtype rounds it once.

    Raises:
        ConfigError: the table lacks an element.
    """
    if not isinstance(value, dict):
        return torch.full((len(elements),), value, dtype=torch.float64)
    missing = [symbol for symbol in elements if symbol not in value]
    if missing:
        raise ConfigError(f"'{name}' has no value for {missing[0]}; give one for each of {', '.join(elements)}.")
    return torch.tensor([value[symbol] for symbol in elements], dtype=torch.float64)
