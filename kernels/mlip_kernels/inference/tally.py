"""Counts the arithmetic of an inference program: what its vector code multiplies and adds for atoms and edges.

Counted is the algorithm that is run, by the formulas of the emitters, a multiplication fused with an addition as two
operations: convolutions, maps of channels, many-body products and readouts. What is done once for all channels
(vectors, harmonics, splines), activations, and sums over lanes are left out, as they are few per cent. Channels are
those of the network, padding included.
"""

from dataclasses import dataclass
from typing import NamedTuple

from mlip_kernels.channelwise_convolution.cpu_plan import ConvolutionPlan
from mlip_kernels.channelwise_convolution.cpu_splines import BASIS
from mlip_kernels.inference.spec import ChannelMap, Contraction, Gate, Layer, Network, Readout
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan, Monomial

# A spline of four terms: a product and three that are added.
_INTERPOLATION = 2 * BASIS - 1


class Flops(NamedTuple):
    """Additions and multiplications, for every atom and for every edge."""

    atom: int
    edge: int

    def total(self, atoms: int, edges: int) -> int:
        """Of so many atoms and edges."""
        return self.atom * atoms + self.edge * edges


@dataclass(frozen=True)
class Tally:
    """Arithmetic of an energy with forces and virial.

    Attributes:
        operations: Of each operation of each layer, by name: "layer 1 convolution", "layer 1 products", …; layers are
            counted from 1.
    """

    operations: dict[str, Flops]

    def total(self, atoms: int, edges: int) -> int:
        """Additions and multiplications for so many atoms and edges, each pair counted in both directions."""
        return sum(flops.total(atoms, edges) for flops in self.operations.values())


def tally(network: Network) -> Tally:
    """Count what a program of this network does, forward and backward."""
    operations = {}
    for number, layer in enumerate(network.layers, start=1):
        for name, flops in _layer(layer, first=number == 1).items():
            operations[f"layer {number} {name}"] = flops
    return Tally(operations)


def _layer(layer: Layer, first: bool) -> dict[str, Flops]:
    maps = (layer.down, layer.message, layer.out, layer.residual, layer.up)
    operations = {
        "convolution": _convolution(layer, first),
        "maps": Flops(sum(_map(each) for each in maps if each is not None), 0),
        "products": Flops(_gate(layer.product) if isinstance(layer.product, Gate) else _contraction(layer.product), 0),
    }
    if layer.readout is not None:
        operations["readout"] = Flops(_readout(layer.readout), 0)
    return operations


def _convolution(layer: Layer, first: bool) -> Flops:
    """Features of the first layer are those of elements and have no gradient."""
    # The entries of the couplings depend on neither lanes nor registers.
    plan = ConvolutionPlan(layer.convolution, lanes=1, registers=1)
    atom = edge = 0
    started: set[tuple[int, int]] = set()
    for number, path in enumerate(layer.convolution.paths):
        components = path.coefficients.shape[0]
        forward = _INTERPOLATION + components + 2 * len(plan.filters[number])
        # The receiver's gradient contracted with the couplings, once for all edges.
        contracted = {(i, j) for i, j, _, _ in plan.entries[number]}
        rows = len({i for i, _ in contracted})
        taken = 2 * len(contracted) - rows
        of_harmonics = 2 * sum(1 for _, j in contracted if j > 0)
        overlap_and_distance = 2 * rows - 1 + _INTERPOLATION + 2
        of_features = 0 if first else 2 * rows
        backward = _INTERPOLATION + components + taken + of_harmonics + overlap_and_distance + of_features
        # Sums that begin with this path are a multiplication cheaper than those that go on.
        backward -= sum(1 for j in {j for _, j in contracted if j > 0} if (path.channels, j) not in started)
        started |= {(path.channels, j) for _, j in contracted}
        edge += path.channels * (forward + backward)
        atom += path.channels * (2 * len(plan.entries[number]) - len(contracted))
    return Flops(atom, edge)


def _map(channels: ChannelMap) -> int:
    """The map and its transpose."""
    return sum(4 * block.components * block.matrix.shape[-2] * block.matrix.shape[-1] for block in channels.blocks)


def _readout(readout: Readout) -> int:
    """With hidden units, their sums are computed again for the gradient."""
    if readout.hidden is None:
        return 4 * readout.outputs.size
    channels, units = readout.hidden.shape
    return 6 * channels * units + 4 * readout.outputs.size


def _gate(gate: Gate) -> int:
    """The products with factors that are known; the gradient sums over components."""
    return sum(block.channels * (1 + block.components * (1 + 2 + 2)) for block in gate.gated)


def _contraction(contraction: Contraction) -> int:
    plan = ContractionPlan(contraction.table)
    forward = sum(_horner(plan, component, ()).flops for component in range(plan.num_outputs))
    return contraction.channels * (forward + _gradient(plan, (), set()).flops)


class _Part(NamedTuple):
    """A part of a polynomial: whether it is there, and what it costs."""

    exists: bool
    flops: int


def _horner(plan: ContractionPlan, component: int, prefix: Monomial) -> _Part:
    """Value of an output component's polynomial below a prefix."""
    exists, flops = component in plan.row_numbers.get(prefix, {}), 0
    for factor in plan.children.get(prefix, ()):
        below = _horner(plan, component, (*prefix, factor))
        if below.exists:
            flops += below.flops + (2 if exists else 1)
            exists = True
    return _Part(exists, flops)


def _gradient(plan: ContractionPlan, prefix: Monomial, started: set[int]) -> _Part:
    """Derivatives of the sum of polynomials: coefficients times what components received, two sums at a monomial.

    `started` notes the factors whose derivatives have a term: the first is a multiplication or addition cheaper.
    """
    received = len(plan.row_numbers.get(prefix, {}))
    exists, flops = received > 0, max(0, 2 * received - 1)
    for factor in plan.children.get(prefix, ()):
        leaf = not plan.children.get((*prefix, factor))
        below = _gradient(plan, (*prefix, factor), started)
        flops += below.flops
        if prefix and not leaf:
            flops += 1  # the product of the factors so far
        if below.exists:
            # To the derivative with respect to the factor, and to the value below the prefix.
            flops += (2 if prefix else 1) - (factor not in started)
            started.add(factor)
            if prefix:
                flops += 2 if exists else 1
            exists = True
    return _Part(exists, flops)
