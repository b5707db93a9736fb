"""A potential: a network with reference energies, forces and stress around it."""

from typing import TYPE_CHECKING, Any

import ase.data
import torch
from torch import Tensor, nn

from mlip.data.graphs import AtomicGraph
from mlip.errors import ConfigError, UnknownElementError
from mlip.models.config import MaceConfig, NequIPConfig
from mlip.models.element_values import ElementValues
from mlip.models.long_range import ChargedSites, LongRange, charged_system
from mlip.models.network import Network
from mlip.models.prediction import Prediction
from mlip.nn import ElementGroups, ZBLRepulsion
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.segment_sum import segment_sum
from mlip_kernels.wanted import only

if TYPE_CHECKING:
    from mlip.models.compiled import CompiledPotential


class Potential(nn.Module):
    """Energy of an atomic structure, with forces and stress as its exact derivatives.

    The energy is a sum over atoms of `reference energy + scale * network + shift`, and of the ZBL repulsion if chosen,
    which in mace-torch's form is scaled as well.
    It depends on positions through the edge vectors alone. Its gradient with respect to them gives the forces by two
    sums over edges and the stress by one, since under a strain every edge vector v becomes v + strain v. With
    `long_range` the energy of charges is added, which depends on positions and cell besides.

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
        self.reference_energies = ElementValues([config.reference_energies.get(e, 0.0) for e in config.elements])
        self.register_buffer("scale", _per_element(config.scale, config.elements, "scale"))
        self.register_buffer("shift", _per_element(config.shift, config.elements, "shift"))
        self.zbl = None
        if config.zbl:
            power = {"power": config.cutoff_power} if config.zbl_form == "mace" else {}
            self.zbl = ZBLRepulsion(atomic_numbers, config.cutoff, config.zbl_form, **power)
        self.long_range = LongRange(config.long_range, config.elements, config.cutoff) if config.long_range else None
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
            DataError, StructureError: from the electrostatics of `long_range`.
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
            groups = ElementGroups.from_elements(self.element_indices(graph.atomic_numbers), len(self.elements))
            outputs = self.network(vectors.to(self.dtype), edges, groups)
            energies = self._energies(outputs[:, 0], vectors, edges, groups.elements)
            variables, charges, dipole, total_charge = [vectors], None, None, None
            if self.long_range is not None:
                sites = ChargedSites(graph.positions, graph.cell, graph.pbc, graph.total_charge, graph.charges)
                system, places = charged_system(sites, structures, vectors, edges, groups.elements, stress)
                electrostatics = self.long_range(outputs[:, 1:], system)
                charges, total_charge = electrostatics.charges, electrostatics.total_charge
                energies = energies + electrostatics.energies
                dipole = segment_sum(charges[:, None] * graph.positions, structures, len(graph.cell))
                variables += places
            energy = segment_sum(energies, structures, len(graph.cell))
            force = virial = None
            if forces or stress:
                with only("positions"):
                    gradients = torch.autograd.grad(
                        energies.sum(), variables, create_graph=differentiable, materialize_grads=True
                    )
                force = _forces(gradients, edges) if forces else None
                virial = _stress(gradients, vectors, structures[receivers], graph.cell) if stress else None
        prediction = Prediction(energy, energies, force, virial, charges, dipole, total_charge)
        return prediction if differentiable else prediction.detach()

    def _energies(self, output: Tensor, vectors: Tensor, edges: EdgeTopology, elements: Tensor) -> Tensor:
        """Energy of each atom without that of charges, eV, float64 [nodes], from the network's output [nodes]."""
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


def _forces(gradients: tuple[Tensor, ...], edges: EdgeTopology) -> Tensor:
    """Forces from the energy's gradients with respect to the edge vectors and, where there are charges, positions."""
    forces = segment_sum(gradients[0], edges.receivers, edges.num_nodes)
    forces = forces - segment_sum(gradients[0], edges.senders, edges.num_nodes)
    return forces - gradients[1] if len(gradients) > 1 else forces


def _stress(gradients: tuple[Tensor, ...], vectors: Tensor, structures: Tensor, cell: Tensor) -> Tensor:
    """Stress from the energy's gradients with respect to the edge vectors and, where there are charges, the strain.

    Args:
        gradients: Those of `edge vectors, positions, strain`, or of edge vectors alone.
        vectors: Å [edges, 3].
        structures: Of the edges, int64 [edges].
        cell: Å [structures, 3, 3].

    Returns:
        [structures, 3, 3].
    """
    strain_gradient = segment_sum(vectors[:, :, None] * gradients[0][:, None, :], structures, cell.shape[0])
    strain_gradient = (strain_gradient + strain_gradient.transpose(1, 2)) / 2.0
    if len(gradients) > 1:
        strain_gradient = strain_gradient + gradients[2]
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
