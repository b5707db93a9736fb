"""Networks with random numbers for the inference program: couplings, maps and tables that no model stands behind."""

import itertools
from dataclasses import replace

import numpy as np
from e3nn.o3 import wigner_3j
from numpy.typing import NDArray

from mlip_kernels.channelwise_convolution.table import ConvolutionPath, ConvolutionTable
from mlip_kernels.inference import spec
from mlip_kernels.inference.pairs import Pairs
from mlip_kernels.radial_table import KnotGrid
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan
from mlip_kernels.symmetric_contraction.table import ContractionTable, ContractionTerm

ELEMENTS = 3
CUTOFF = 3.5
GRID = KnotGrid.covering(CUTOFF, 12)

# Irreps of a row in order: degree and channels.
Irreps = list[tuple[int, int]]


class RandomNetwork:
    """Makes parts of networks whose channels are multiples of `lanes`, with harmonics up to a degree, and outputs."""

    def __init__(self, lanes: int, l_max: int, seed: int, outputs: int = 1) -> None:
        self.lanes = lanes
        self.l_max = l_max
        self.outputs = outputs
        self._generator = np.random.default_rng(seed)
        self._further = np.random.default_rng(seed + 1000)

    def numbers(self, *shape: int) -> NDArray[np.float64]:
        """Normal numbers, divided by the square root of the last dimension but one where there is one."""
        return self._generator.normal(size=shape) / np.sqrt(shape[-2] if len(shape) > 1 else 1.0)

    def readout(self, columns: int) -> NDArray[np.float64]:
        """Of the energy, and of further outputs."""
        energy = self.numbers(columns)
        return np.vstack([energy, self._further.normal(size=(self.outputs - 1, columns))])

    def network(self, layers: list[spec.Layer], sent: Irreps, repulsion: spec.PairRepulsion | None) -> spec.Network:
        """Layers with what stands around them; the first takes rows of `sent`."""
        # e3nn's constants are good to single precision only unless its default says otherwise.
        lifts = [wigner_3j(degree, 1, degree + 1).numpy() for degree in range(self.l_max)]
        return spec.Network(
            cutoff=CUTOFF,
            origin=GRID.origin + GRID.spacing,
            spacing=GRID.spacing,
            lifts=tuple(lift * np.sqrt(2 * degree + 3) for degree, lift in enumerate(lifts)),
            features=self._generator.normal(size=(ELEMENTS, dim(sent))),
            scales=self._generator.uniform(0.5, 2.0, ELEMENTS),
            layers=tuple(layers),
            repulsion=repulsion,
        )

    def convolution(self, inputs: Irreps, degrees: list[int]) -> ConvolutionTable:
        """Every path that the degrees allow, with random couplings of which half are zero."""
        starts = dict(zip((degree for degree, _ in inputs), offsets(inputs), strict=True))
        found = [
            (output, degree, harmonic, channels)
            for output in degrees
            for degree, channels in inputs
            for harmonic in range(self.l_max + 1)
            if abs(degree - harmonic) <= output <= degree + harmonic
        ]
        paths: list[ConvolutionPath] = []
        weight = offset = 0
        for output, members in itertools.groupby(found, key=lambda path: path[0]):
            of_output = list(members)
            total, first = sum(channels for *_, channels in of_output), 0
            for _, degree, harmonic, channels in of_output:
                couplings = self._generator.normal(size=(2 * degree + 1, 2 * harmonic + 1, 2 * output + 1))
                couplings[self._generator.random(couplings.shape) < 0.5] = 0.0
                couplings[0, 0, 0] = 0.5
                paths.append(
                    ConvolutionPath(
                        starts[degree], harmonic**2, weight, offset, total, first, channels, couplings
                    )
                )  # fmt: skip
                weight += channels
                first += channels
            offset += total * (2 * output + 1)
        return ConvolutionTable(tuple(paths), dim(inputs), (self.l_max + 1) ** 2, weight, offset)

    def table(self, columns: int) -> NDArray[np.float64]:
        """Coefficients of radial functions."""
        return self._generator.normal(size=(GRID.knots, columns))

    def channel_map(self, source: Irreps, target: Irreps, per_element: bool = False) -> spec.ChannelMap:
        """Maps between the irreps that both rows have."""
        inputs = dict(zip((degree for degree, _ in source), zip(offsets(source), source, strict=True), strict=True))
        mapped = []
        for (degree, channels), offset in zip(target, offsets(target), strict=True):
            if degree in inputs:
                first, (_, given) = inputs[degree]
                shape = (ELEMENTS, given, channels) if per_element else (given, channels)
                mapped.append(spec.MapBlock(first, offset, 2 * degree + 1, self.numbers(*shape)))
        return spec.ChannelMap(tuple(mapped), dim(source), dim(target), per_element)

    def contraction(self, components: int, outputs: list[int], channels: int) -> spec.Contraction:
        """Products up to the third order with random coefficients, of the third a few only."""
        terms: list[ContractionTerm] = []
        for output, degree in enumerate(outputs):
            for order in (1, 2, 3):
                monomials = np.array(list(itertools.combinations_with_replacement(range(components), order)))
                monomials = monomials[:: 1 if order < 3 else 3]
                values = self._generator.normal(size=(1, 2 * degree + 1, len(monomials)))
                values[self._generator.random(values.shape) < 0.3] = 0.0
                values[0, 0, 0] = 1.0
                terms.append(ContractionTerm(output, monomials, values, len(terms)))
        table = ContractionTable(tuple(terms), components, tuple(2 * degree + 1 for degree in outputs), len(terms))
        coefficients = 0.3 * self._generator.normal(size=(ELEMENTS, len(ContractionPlan(table).rows), channels))
        return spec.Contraction(table, channels, coefficients)

    def many_body_layer(self, sent: Irreps, before: Irreps | None, after: Irreps, up: Irreps | None) -> spec.Layer:
        """Convolution, normalisation by a density, maps by element, products, and a residual; a linear readout."""
        channels = 2 * self.lanes
        convolution = self.convolution(sent, list(range(self.l_max + 1)))
        messages: Irreps = [(0, channels), (1, channels)]
        return spec.Layer(
            convolution=convolution,
            table=self.table(convolution.weight_dim),
            down=self.channel_map(convolved(convolution), messages),
            density=spec.DensityNormalisation(self.table(1)[:, 0] ** 2),
            message=self.channel_map(messages, messages, per_element=True),
            product=self.contraction(4, [0, 1], channels),
            out=self.channel_map([(0, channels), (1, channels)], after),
            residual=None if before is None else self.channel_map(before, after, per_element=True),
            residual_constants=self.numbers(ELEMENTS, dim(after)) if before is None else None,
            readout=spec.Readout(0, None, self.readout(after[0][1])),
            up=None if up is None else self.channel_map(after, up),
        )

    def gated_layer(self, sent: Irreps, before: Irreps | None, after: Irreps, up: Irreps | None) -> spec.Layer:
        """Convolution, residual and gate; a readout with a hidden layer."""
        (_, scalars), (_, vectors) = after
        convolution = self.convolution(sent, [0, 1])
        given: Irreps = [(0, scalars + vectors), (1, vectors)]
        half = scalars - self.lanes
        gate = spec.Gate(
            (
                spec.ActivatedBlock(0, 0, half, "silu", 1.7),
                spec.ActivatedBlock(half, half, self.lanes, "tanh", 1.6),
            ),
            (spec.GatedBlock(dim(given[:1]), scalars, scalars, 3, vectors, 1.5),),
            dim(given),
            dim(after),
        )
        units = 2 * self.lanes
        return spec.Layer(
            convolution=convolution,
            table=self.table(convolution.weight_dim),
            down=self.channel_map(convolved(convolution), given),
            density=None,
            message=None,
            product=gate,
            out=None,
            residual=None if before is None else self.channel_map(before, given, per_element=True),
            residual_constants=self.numbers(ELEMENTS, dim(given)) if before is None else None,
            readout=spec.Readout(0, self.numbers(scalars, units), self.readout(units)),
            up=None if up is None else self.channel_map(after, up),
        )


def repulsion(ends_at_cutoff: bool) -> spec.PairRepulsion:
    """Of nuclei whose radii together reach beyond the cutoff or end before it."""
    charges = np.array([1.0, 6.0, 14.0])
    return spec.PairRepulsion(
        charges=charges,
        powers=charges**0.23,
        radii=np.array([0.8, 1.5, 2.4]),
        amplitudes=(0.2, 0.5, 0.3),
        decays=(3.2, 0.94, 0.4),
        length=0.47,
        coulomb=14.4,
        ends_at_cutoff=ends_at_cutoff,
        factors=np.array([1.0, 0.7, 1.3]),
        envelope_power=5,
    )


def two_layers(lanes: int) -> spec.Network:
    """Many-body products, then a gate; irreps with unequal channels."""
    make = RandomNetwork(lanes, 2, seed=0)
    sent, features, up = [(0, 2 * lanes)], [(0, 2 * lanes), (1, lanes)], [(0, 2 * lanes), (1, lanes)]
    layers = [make.many_body_layer(sent, None, features, up), make.gated_layer(up, features, features, None)]
    return make.network(layers, sent, repulsion(ends_at_cutoff=True))


def three_layers(lanes: int) -> spec.Network:
    """A gate, and many-body products of which the last have no residual; two further outputs."""
    make = RandomNetwork(lanes, 1, seed=1, outputs=3)
    sent, features = [(0, lanes)], [(0, 2 * lanes), (1, lanes)]
    up = [(0, lanes), (1, 2 * lanes)]
    middle = make.many_body_layer(up, features, features, up)
    last = make.many_body_layer(up, features, features, None)
    layers = [
        replace(make.gated_layer(sent, None, features, up), readout=None),
        replace(middle, density=None),
        replace(last, message=None, residual=None),
    ]
    return make.network(layers, sent, None)


def dim(irreps: Irreps) -> int:
    """Columns of a row."""
    return sum((2 * degree + 1) * channels for degree, channels in irreps)


def offsets(irreps: Irreps) -> list[int]:
    """First column of each irrep."""
    return [dim(irreps[:number]) for number in range(len(irreps))]


def convolved(table: ConvolutionTable) -> Irreps:
    """Irreps of a convolution's result."""
    outputs = {path.output_offset: path for path in table.paths}
    return [((path.coefficients.shape[2] - 1) // 2, path.output_channels) for path in outputs.values()]


def crystal(atoms: int, seed: int, box: float) -> tuple[NDArray[np.float64], NDArray[np.int64], Pairs]:
    """Positions in a periodic box, elements, and pairs somewhat beyond the cutoff.

    Atom 0 is far from all others in the middle of its own vacuum.
    """
    generator = np.random.default_rng(seed)
    positions = np.zeros((atoms, 3))
    positions[0] = 1e3
    number = 1
    images = box * np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    while number < atoms:
        positions[number] = generator.uniform(0.0, box, 3)
        distances = np.linalg.norm(positions[1:number, None] + images - positions[number], axis=2)
        number += bool((distances > 0.9).all())
    vectors = positions[None, :, None] + images - positions[:, None, None]
    distances = np.linalg.norm(vectors, axis=3)
    distances[0, 0] = np.inf
    receivers, senders, numbers = np.nonzero((distances > 0.0) & (distances < CUTOFF + 0.3))
    starts = np.searchsorted(receivers, np.arange(atoms + 1)).astype(np.int64)
    elements = generator.integers(0, ELEMENTS, atoms)
    return positions, elements, Pairs(starts, senders.astype(np.int64), np.ascontiguousarray(images[numbers]))


def one_layer(lanes: int) -> spec.Network:
    """A gate alone, its readout with hidden units and a further output."""
    make = RandomNetwork(lanes, 1, seed=2, outputs=2)
    sent = [(0, lanes)]
    return make.network([make.gated_layer(sent, None, [(0, 2 * lanes), (1, lanes)], None)], sent, None)
