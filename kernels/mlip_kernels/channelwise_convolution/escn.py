"""The channelwise convolution in frames in which every edge points to the pole."""

import math
from typing import Any

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
        for number, path in enumerate(table.paths):
            l1, l2, l3 = _degrees(path)
            m = np.arange(-_reach(path), _reach(path) + 1)
            partner = -m if _turns(path) else m
            factors = math.sqrt(2 * l2 + 1) * path.coefficients[l1 + partner, l2, l3 + m]
            self.register_constant(f"factors_{number}", torch.tensor(factors)[:, None])

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
        turned = self._turned(features.index_select(0, senders), rotations)
        weighing = columns(weights, (path.weight_span for path in paths))
        outputs: list[Tensor] = []
        row: list[Tensor] = []
        for number, path in enumerate(paths):
            x, weight = turned[path.input_span, _reach(path)], weighing[path.weight_span]
            row.append(self._path(number, x, rotations, weight, blocks))
            if path.output_channel + path.channels == path.output_channels:
                outputs.append(torch.cat(row, 2).flatten(1))
                row = []
        output = torch.cat(outputs, 1)
        if blocks.one_block_per_node:
            return output
        return output.new_zeros(edges.num_nodes, output.shape[1]).index_add(0, blocks.receivers, output)

    def _rotations(self, harmonics: Tensor, occupied: Tensor) -> list[Tensor]:
        """Matrices D_l of the rotations that take the edges to the pole, [edges, 2*l+1, 2*l+1], zero in empty slots."""
        matrices = [occupied]
        if self.highest > 0:
            rotation = rotation_to_pole(_directions(harmonics))
            for degree in range(self.highest):
                matrices.append(_next_degree(matrices[-1], rotation, self.get_buffer(f"lift_{degree}")))
        return matrices

    def _turned(self, sent: Tensor, rotations: list[Tensor]) -> dict[tuple[tuple[int, int], int], Tensor]:
        """Components |m| <= reach of input irreps in the frames of the edges, [edges, 2*reach+1, channels].

        Each comes once for every reach of the paths that take it.
        """
        degrees = {path.input_span: _degrees(path)[0] for path in self.table.paths}
        turned = {}
        for span, x in columns(sent, degrees).items():
            degree = degrees[span]
            whole = x.unflatten(1, (2 * degree + 1, -1))
            if degree > 0:
                whole = torch.bmm(rotations[degree], whole)
            for reach in {_reach(path) for path in self.table.paths if path.input_span == span}:
                turned[span, reach] = _middle(whole, reach)
        return turned

    def _path(self, number: int, x: Tensor, rotations: list[Tensor], weight: Tensor, blocks: EdgeBlocks) -> Tensor:
        """One path's sums over the edges of each block, turned back, [blocks, 2*l3+1, channels]."""
        path = self.table.paths[number]
        back = _middle(rotations[_degrees(path)[2]], _reach(path)) * self.get_buffer(f"factors_{number}")
        if _turns(path):
            back = back.flip(1)
        matrices = back.view(len(blocks.receivers), blocks.size * back.shape[1], back.shape[2])
        summed: Tensor = _SumOfWeighted.apply(matrices, x, weight)
        return summed


class _SumOfWeighted(torch.autograd.Function):
    """Batched products `matrices^T @ (x * weight)` that keep no `x * weight` for the derivatives.

    It would be by far the largest of what is kept, and takes one multiplication to form again.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(matrices, x, weight)
        return torch.bmm(matrices.transpose(1, 2), _weighted(matrices, x, weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        matrices, x, weight = ctx.saved_tensors
        of_matrices = of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_matrices = torch.bmm(_weighted(matrices, x, weight), gradient.transpose(1, 2))
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            of_weighted = torch.bmm(matrices, gradient).view(x.shape)
            of_x = of_weighted * weight[:, None]
            of_weight = (of_weighted * x).sum(1)
        return of_matrices, of_x, of_weight


def _weighted(matrices: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Products of [edges, components, channels] and [edges, channels], [blocks, edges * components, channels]."""
    return (x * weight[:, None]).view(*matrices.shape[:2], x.shape[2])


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


def _reach(path: ConvolutionPath) -> int:
    """Highest |m| that a path takes from its input to its output."""
    return min(_degrees(path)[::2])


def _turns(path: ConvolutionPath) -> bool:
    """Whether a path takes m to -m."""
    return sum(_degrees(path)) % 2 == 1


def _middle(tensor: Tensor, reach: int) -> Tensor:
    """Components |m| <= reach of [edges, 2*l+1, ...]."""
    spare = tensor.shape[1] // 2 - reach
    return tensor[:, spare : tensor.shape[1] - spare] if spare else tensor


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
        first, second, third = (matrices[degree] for degree in _degrees(path))
        turned = torch.einsum("eia,ejb,abc->eijc", first, second, coefficients)
        turned = torch.einsum("ekc,eijc->eijk", third, turned)
        if not torch.allclose(turned, coefficients.expand_as(turned), rtol=0, atol=1e-10 * float(coefficients.norm())):
            raise ValueError(
                f"the coupling of degrees {_degrees(path)} is not invariant under rotations and escn needs that: "
                "give Clebsch-Gordan coefficients, or choose the implementation blocked."
            )
