"""What an inference program computes: layers of convolutions and maps of channels, with their numbers.

Features of an atom lie in one row: one irrep after another, each [2*l+1, channels] with the channel last, the number of
channels padded to whole vectors. All numbers are float64 here and rounded to the program's type once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip_kernels.channelwise_convolution.table import ConvolutionTable
from mlip_kernels.symmetric_contraction.table import ContractionTable

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MapBlock:
    """Maps the channels of one irrep.

    Attributes:
        input_offset: First column of the irrep in the input row.
        output_offset: The same in the output row.
        components: 2*l+1.
        matrix: [channels in, channels out], or one for each element, [elements, channels in, channels out].
    """

    input_offset: int
    output_offset: int
    components: int
    matrix: Array


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """A linear map of channels.

    Attributes:
        blocks: Each output irrep occurs once at most; what no block writes is zero.
        input_dim: Columns of the input row.
        output_dim: Columns of the output row.
        per_element: Whether matrices depend on the atom's element.
    """

    blocks: tuple[MapBlock, ...]
    input_dim: int
    output_dim: int
    per_element: bool


@dataclass(frozen=True, eq=False)
class Contraction:
    """Many-body products: polynomials in the components of each channel.

    Attributes:
        table: The products; the input row is [components, channels], the output row one irrep after another.
        channels: Padded.
        coefficients: Of each element, row of `ContractionPlan` and channel, [elements, rows, channels].
    """

    table: ContractionTable
    channels: int
    coefficients: Array


@dataclass(frozen=True)
class ActivatedBlock:
    """Scalars of a gate: `scale * activation(x)`."""

    input_offset: int
    output_offset: int
    channels: int
    activation: str
    scale: float


@dataclass(frozen=True)
class GatedBlock:
    """An irrep of a gate: each channel times `scale * silu` of a scalar of its own, at `gate_offset`."""

    input_offset: int
    gate_offset: int
    output_offset: int
    components: int
    channels: int
    scale: float


@dataclass(frozen=True)
class Gate:
    """A gate non-linearity."""

    activated: tuple[ActivatedBlock, ...]
    gated: tuple[GatedBlock, ...]
    input_dim: int
    output_dim: int


@dataclass(frozen=True, eq=False)
class Readout:
    """Outputs from the scalars of a row: linear, or with one hidden layer of SiLU units.

    Attributes:
        offset: First column of the scalars.
        hidden: [channels, units], its columns padded, or None.
        outputs: [outputs, channels], or [outputs, units]. The first output is the energy, the same number in all
            layers that have any.
    """

    offset: int
    hidden: Array | None
    outputs: Array


@dataclass(frozen=True, eq=False)
class DensityNormalisation:
    """Divides an atom's messages by 1 plus a sum over its neighbours.

    Attributes:
        table: Coefficients of a neighbour's part as a function of the distance, [knots].
    """

    table: Array


@dataclass(frozen=True, eq=False)
class Layer:
    """One interaction.

    Attributes:
        convolution: Couplings, channels padded.
        table: Coefficients of the radial weights, [knots, weight_dim].
        down: From the convolution's row to the products' input.
        density: Normalisation of the messages, or None.
        message: Map of the products' input by element, or None.
        product: Many-body products or a gate.
        out: From the products' output to the layer's row, or None where they are the same.
        residual: From the row before the layer; to the products' input if it is a gate, else to the layer's row. None
            where there is none; that of the first layer is in `residual_constants`.
        residual_constants: What the residual gives for each element in the first layer, [elements, columns], or None.
        readout: Or None where the layer gives no energy.
        up: From the layer's row to the features that the next layer's convolution takes; None in the last layer.
    """

    convolution: ConvolutionTable
    table: Array
    down: ChannelMap
    density: DensityNormalisation | None
    message: ChannelMap | None
    product: Contraction | Gate
    out: ChannelMap | None
    residual: ChannelMap | None
    residual_constants: Array | None
    readout: Readout | None
    up: ChannelMap | None

    def __post_init__(self) -> None:
        if self.density is not None and isinstance(self.product, Gate):
            raise ValueError("a layer with a gate has no density: its residual would be divided too.")


@dataclass(frozen=True, eq=False)
class PairRepulsion:
    """Screened nuclear repulsion of Ziegler, Biersack and Littmark with the polynomial cutoff.

    Half of `coulomb Z1 Z2 / r sum_k amplitudes_k exp(-decays_k r / a)` goes to each atom, with
    `a = length / (Z1^power + Z2^power)`, ended at the sum of the atoms' radii or at the cutoff.

    Attributes:
        charges: Z of each element.
        powers: Z^power of each element.
        radii: Å, of each element.
        amplitudes, decays: Of the screening function.
        length: Å.
        coulomb: eV Å.
        ends_at_cutoff: Whether it ends at the network's cutoff where the radii reach beyond.
        factors: On the energy of an atom, of each element.
        envelope_power: p of the polynomial cutoff.
    """

    charges: Array
    powers: Array
    radii: Array
    amplitudes: tuple[float, ...]
    decays: tuple[float, ...]
    length: float
    coulomb: float
    ends_at_cutoff: bool
    factors: Array
    envelope_power: int


@dataclass(frozen=True, eq=False)
class Network:
    """A potential without its reference energies.

    Attributes:
        cutoff: Å.
        origin: Distance of the first knot of the radial tables, Å.
        spacing: Of the knots, Å.
        lifts: Isometries of degree l + 1 into degree l ⊗ degree 1, for the harmonics.
        features: What the first convolution takes, for each element, [elements, columns].
        scales: Factor on the network's energy of an atom, for each element; further outputs have none.
        layers: In order.
        repulsion: Added to the scaled energies, or None.
    """

    cutoff: float
    origin: float
    spacing: float
    lifts: tuple[Array, ...]
    features: Array
    scales: Array
    layers: tuple[Layer, ...]
    repulsion: PairRepulsion | None

    @property
    def further_outputs(self) -> int:
        """Outputs of an atom beside the energy, of which others make energies: charges."""
        return next(len(layer.readout.outputs) - 1 for layer in self.layers if layer.readout is not None)
