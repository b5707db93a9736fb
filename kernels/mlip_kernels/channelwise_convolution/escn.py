"""The channelwise convolution in frames in which every edge points to the pole."""

import math

import numpy as np
import torch
from torch import Tensor

from mlip_kernels.channelwise_convolution.table import ConvolutionPath, ConvolutionTable, columns
from mlip_kernels.constants import ConstantModule
from mlip_kernels.edges import EdgeBlocks, EdgeTopology


class ESCNConvolution(ConstantModule):
    """The function of `ReferenceConvolution` for rotation-invariant couplings with harmonics of unit directions.

    A rotation that takes an edge to the polar axis y leaves only the component m = 0 of each of its harmonics, and a
    path then couples component m of the input to component m of the output (where l1 + l2 + l3 is even) or −m (odd):
    the sum over components is gone (Passaro and Zitnick 2023, arXiv 2302.03655). The rotation back is one with the sum
    over neighbours, a batched matrix product over blocks of edges for each path.

    The direction comes from the harmonics of degree 1, which have to be sqrt(3) times a unit vector, those of degree l2
    of norm sqrt(2*l2+1); all derivatives flow through degree 1, and are right as derivatives with respect to positions.
    Harmonics of degree 0 alone need no direction.

    Args:
        table: The paths, with `lifts` for all degrees in them.

    Raises:
        ValueError: the table has no lifts, its harmonics are not those of degrees 0 … l_max in order, or a coupling is
            not invariant under rotations.
    """

    def __init__(self, table: ConvolutionTable) -> None:
        super().__init__()
        self.table = table
        _check(table)
        self.highest = max(max(_degrees(path)[::2]) for path in table.paths)
        for degree, lift in enumerate(table.lifts[: self.highest]):
            self.register_constant(f"lift_{degree}", torch.tensor(lift))
        self.degrees = {path.input_span: _degrees(path)[0] for path in table.paths}
        # Highest |m| of each input irrep that any path takes.
        self.reach: dict[tuple[int, int], int] = {}
        for number, path in enumerate(table.paths):
            l1, l2, l3 = _degrees(path)
            m = np.arange(-min(l1, l3), min(l1, l3) + 1)
            partner = m if (l1 + l2 + l3) % 2 == 0 else -m
            factors = math.sqrt(2 * l2 + 1) * path.coefficients[l1 + m, l2, l3 + partner]
            self.register_constant(f"factors_{number}", torch.tensor(factors)[:, None])
            self.register_buffer(f"partners_{number}", torch.tensor(l3 + partner), persistent=False)
            self.reach[path.input_span] = max(self.reach.get(path.input_span, 0), min(l1, l3))

    def forward(self, features: Tensor, harmonics: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve; arguments and result are those of `ReferenceConvolution.forward`."""
        blocks = edges.blocks
        senders = edges.senders
        occupied = harmonics.new_ones(len(harmonics), 1, 1)
        if blocks.edges is not None and blocks.occupied is not None:
            senders = senders[blocks.edges]
            weights = weights.index_select(0, blocks.edges)
            harmonics = harmonics.index_select(0, blocks.edges)
            occupied = blocks.occupied.to(harmonics.dtype)[:, :, None]
        rotations = self._rotations(harmonics, occupied)
        paths = self.table.paths
        sent = columns(features.index_select(0, senders), self.reach)
        weighing = columns(weights, (path.weight_span for path in paths))
        turned = {span: self._turned(x, rotations, span) for span, x in sent.items()}
        outputs: list[Tensor] = []
        row: list[Tensor] = []
        for number, path in enumerate(paths):
            x, weight = turned[path.input_span], weighing[path.weight_span]
            row.append(self._path(number, x, rotations, weight, blocks))
            if path.output_channel + path.channels == path.output_channels:
                outputs.append(torch.cat(row, 2).flatten(1))
                row = []
        output = torch.cat(outputs, 1)
        if blocks.one_block_per_node:
            return output
        return output.new_zeros(edges.num_nodes, output.shape[1]).index_add(0, blocks.receivers, output)

    def _path(self, number: int, x: Tensor, rotations: list[Tensor], weight: Tensor, blocks: EdgeBlocks) -> Tensor:
        """One path's sums over the edges of each block, turned back, [blocks, 2*l3+1, channels]."""
        path = self.table.paths[number]
        l1, _, l3 = _degrees(path)
        back = rotations[l3].index_select(1, self.get_buffer(f"partners_{number}"))
        back = back * self.get_buffer(f"factors_{number}")
        spare = self.reach[path.input_span] - min(l1, l3)
        if spare:
            x = x[:, spare : x.shape[1] - spare]
        num_blocks, inner = len(blocks.receivers), blocks.size * x.shape[1]
        left = back.view(num_blocks, inner, 2 * l3 + 1).transpose(1, 2)
        return torch.bmm(left, (x * weight[:, None]).view(num_blocks, inner, path.channels))

    def _rotations(self, harmonics: Tensor, occupied: Tensor) -> list[Tensor]:
        """Matrices D_l of the rotations that take the edges to the pole, [edges, 2*l+1, 2*l+1], zero in empty slots."""
        matrices = [occupied]
        if self.highest > 0:
            rotation = rotation_to_pole(_directions(harmonics))
            for degree in range(self.highest):
                matrices.append(_next_degree(matrices[-1], rotation, self.get_buffer(f"lift_{degree}")))
        return matrices

    def _turned(self, x: Tensor, rotations: list[Tensor], span: tuple[int, int]) -> Tensor:
        """Components |m| <= reach of an input irrep in the frames of the edges, [edges, 2*reach+1, channels]."""
        degree = self.degrees[span]
        x = x.unflatten(1, (2 * degree + 1, -1))
        if degree == 0:
            return x
        spare = degree - self.reach[span]
        return torch.bmm(rotations[degree][:, spare : 2 * degree + 1 - spare], x)


def rotation_to_pole(directions: Tensor) -> Tensor:
    """Rotations that take unit vectors [edges, 3] to (0, 1, 0), [edges, 3, 3].

    For y >= 0 it is the rotation about the axis orthogonal to both, whose formula is smooth but at y = −1; for y < 0
    the vector is first turned by π about x, so that every vector is far from where its formula is singular. The two
    differ by a rotation about the pole.
    """
    x, y, z = directions.unbind(1)
    side = torch.where(y >= 0, 1.0, -1.0).to(directions.dtype)
    inverse = 1 / (1 + side * y)
    rows = [
        *(1 - inverse * x * x, -side * x, -inverse * x * z),
        *(x, y, z),
        *(-side * inverse * x * z, -z, side * (1 - inverse * z * z)),
    ]
    return torch.stack(rows, 1).unflatten(1, (3, 3))


def _next_degree(matrices: Tensor, rotation: Tensor, lift: Tensor) -> Tensor:
    """D_{l+1}, the product of D_l and the rotation projected on degree l + 1."""
    size, _, larger = lift.shape
    rows = matrices[:, None] @ lift.transpose(0, 1)
    products = torch.bmm(rotation, rows.flatten(2)).view(-1, 3 * size, larger)
    return lift.permute(2, 1, 0).reshape(larger, 3 * size) @ products


def _directions(harmonics: Tensor) -> Tensor:
    """Unit vectors [edges, 3]; any will do where there are no harmonics of degree 1."""
    if harmonics.shape[1] == 1:
        return harmonics.new_tensor([0.0, 1.0, 0.0]).expand(len(harmonics), 3)
    return harmonics[:, 1:4] / math.sqrt(3)


def _degrees(path: ConvolutionPath) -> tuple[int, int, int]:
    l1, l2, l3 = ((size - 1) // 2 for size in path.coefficients.shape)
    return l1, l2, l3


def _check(table: ConvolutionTable) -> None:
    """Refuse a table whose paths are no invariant couplings of harmonics."""
    highest = max(max(_degrees(path)) for path in table.paths)
    if len(table.lifts) < highest:
        raise ValueError(
            f"the table has lifts of {len(table.lifts)} degrees and escn needs those of {highest}: "
            "fill its field lifts, or choose the implementation blocked."
        )
    for path in table.paths:
        l2 = _degrees(path)[1]
        if path.harmonic_offset != l2**2:
            raise ValueError(
                f"harmonics of degree {l2} stand at column {path.harmonic_offset} and escn needs them at {l2**2}: "
                "order harmonics by degree, or choose the implementation blocked."
            )
    # No rotation about a fixed axis is invariant under both of these but the identity.
    tilts = rotation_to_pole(torch.tensor([[0.48, 0.6, 0.64], [0.8, -0.6, 0.0]], dtype=torch.float64))
    matrices = [torch.ones(2, 1, 1, dtype=torch.float64)]
    for lift in table.lifts[:highest]:
        matrices.append(_next_degree(matrices[-1], tilts, torch.tensor(lift)))
    for path in table.paths:
        coefficients = torch.tensor(path.coefficients)
        turned = torch.einsum("eia,ejb,ekc,abc->eijk", *(matrices[degree] for degree in _degrees(path)), coefficients)
        if not torch.allclose(turned, coefficients.expand_as(turned), rtol=0, atol=1e-10 * float(coefficients.norm())):
            raise ValueError(
                f"the coupling of degrees {_degrees(path)} is not invariant under rotations and escn needs that: "
                "give Clebsch-Gordan coefficients, or choose the implementation blocked."
            )
