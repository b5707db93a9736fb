"""Products of functions on a grid: transforms to the grid and back, and the pointwise product between them."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from mlip_kernels.backends import available_backend
from mlip_kernels.factorised_product.op import product as factorised_product

# Values on the grid that are kept at a time. On a CPU they share a core's second-level cache with the tables and with
# what is read and written: half or twice as much measured as fast or slower. Elsewhere this only bounds the memory.
_CACHED_BYTES = 1 << 20
_DEVICE_BYTES = 1 << 28
# Kernels run along the channels, most of a vector register being idle where there is only one.
_FEWEST_CHANNELS = 2


class Transform(Protocol):
    """A linear map from the components of an operand to values on a grid, with its transpose.

    Attributes:
        components: Number of components.
        rows: Number of values.
    """

    components: int
    rows: int

    def to_grid(self, operand: Tensor, memory: Tensor) -> Tensor:
        """Values of an operand [batch, components, channels], in memory [at least rows · batch · channels]."""
        raise NotImplementedError

    def from_grid(self, values: Tensor, result: Tensor, add: bool) -> None:
        """Write the transpose of values, or add it, to a result [batch, components, channels]."""
        raise NotImplementedError

    def table(self) -> Tensor:
        """The map as a matrix, [rows, components]."""
        raise NotImplementedError

    def flops(self, channels: int) -> int:
        """Additions and multiplications of either direction for one row of the batch."""
        raise NotImplementedError


class DenseTransform:
    """A transform by one matrix [rows, components]; values are [batch, rows, channels]."""

    def __init__(self, matrix: Tensor) -> None:
        self.rows, self.components = matrix.shape
        self._matrix = matrix

    def to_grid(self, operand: Tensor, memory: Tensor) -> Tensor:
        batch, _, channels = operand.shape
        values = memory[: batch * self.rows * channels].view(batch, self.rows, channels)
        if channels == 1:
            torch.mm(operand[:, :, 0], self._matrix.T, out=values[:, :, 0])
        else:
            # An expanded operand, such as the gradient of a sum, would take a slow path.
            torch.bmm(self._matrix.expand(batch, -1, -1), operand.contiguous(), out=values)
        return values

    def from_grid(self, values: Tensor, result: Tensor, add: bool) -> None:
        if result.shape[2] == 1:
            result[:, :, 0].addmm_(values[:, :, 0], self._matrix, beta=int(add))
        else:
            result.baddbmm_(self._matrix.T.expand(len(result), -1, -1), values, beta=int(add))

    def table(self) -> Tensor:
        return self._matrix

    def flops(self, channels: int) -> int:
        return 2 * self.rows * self.components * channels


class SeparableTransform:
    """A transform by functions of θ for each order, then a Fourier series in φ.

    Values are [φ nodes · sectors · θ nodes, batch, channels], so that the series is one large matrix product. All
    orders are given as many components as the one that has most, which makes the functions of θ one call.

    Args:
        profiles: Functions of θ of the components of each order, zero for those that fill it up,
            [orders, sectors · θ nodes, components of an order].
        fourier: The waves of these orders, [φ nodes, orders].
        gathering: Components by order, [orders · components of an order].
        scattering: Place of each component among these, [components].
    """

    def __init__(self, profiles: Tensor, fourier: Tensor, gathering: Tensor, scattering: Tensor) -> None:
        self.components = len(scattering)
        self.rows = len(fourier) * profiles.shape[1]
        self._profiles = profiles
        self._fourier = fourier
        self._gathering = gathering
        self._scattering = scattering

    def to_grid(self, operand: Tensor, memory: Tensor) -> Tensor:
        batch, _, channels = operand.shape
        orders, _, width = self._profiles.shape
        gathered = operand.transpose(0, 1).index_select(0, self._gathering)
        series = torch.bmm(self._profiles, gathered.view(orders, width, batch * channels))
        values = memory[: self.rows * batch * channels].view(len(self._fourier), -1)
        torch.mm(self._fourier, series.flatten(1), out=values)
        return values.view(self.rows, batch, channels)

    def from_grid(self, values: Tensor, result: Tensor, add: bool) -> None:
        _, batch, channels = values.shape
        orders, theta_rows, width = self._profiles.shape
        series = torch.mm(self._fourier.T, values.reshape(len(self._fourier), -1))
        gathered = torch.bmm(self._profiles.transpose(1, 2), series.view(orders, theta_rows, batch * channels))
        scattered = gathered.view(orders * width, batch, channels).index_select(0, self._scattering).transpose(0, 1)
        if add:
            result.add_(scattered)
        else:
            result.copy_(scattered)

    def table(self) -> Tensor:
        per_order = self._fourier.T[:, :, None, None] * self._profiles[:, None]
        return per_order.permute(1, 2, 0, 3).reshape(self.rows, -1).index_select(1, self._scattering)

    def flops(self, channels: int) -> int:
        return 2 * channels * (self._profiles.numel() + self._fourier.numel() * self._profiles.shape[1])


Leg = tuple[Transform, ...]


class GridProduct(torch.autograd.Function):
    """`third^T Σ_t (first_t x) ⊙ (second_t y)`, computed in chunks of the batch that stay in the cache.

    Each of the three legs is one transform, or one for each term t. The form is linear in x, y and what it is paired
    with, so that its gradients are the same form with the legs swapped. It keeps x and y for them and nothing on the
    grid: values there are computed again, which is cheaper than to write and read them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, channels: int, first: Leg, second: Leg, third: Leg) -> Tensor:
        """Multiply x [batch, d1, C] and y [batch, d2, C]; either may have one channel for all of the other's.

        Args:
            ctx: Autograd's context.
            x: First operand.
            y: Second operand.
            channels: Of the result: C, or 1 for the sum over channels.
            first: Transforms of x.
            second: Transforms of y.
            third: Transforms whose transposes lead from the grid to the result.

        Returns:
            [batch, d3, channels].
        """
        ctx.save_for_backward(x, y)
        ctx.legs = first, second, third
        if _have_kernel(x, y, channels, (first, second, third)):
            tables = (leg[0].table() for leg in (first, second, third))
            return factorised_product(x, y, *tables, channels < max(x.shape[2], y.shape[2]))
        result = x.new_empty(len(x), third[0].components, channels)
        if x.shape[2] < y.shape[2]:
            x, y, first, second = y, x, second, first
        rows = first[0].rows
        chunk = _chunk(x, rows * (len(first) * x.shape[2] + len(second) * y.shape[2]))
        # The same memory for every chunk, so that it stays in the cache.
        memory_x = [x.new_empty(min(chunk, len(x)) * rows * x.shape[2]) for _ in first]
        memory_y = [x.new_empty(min(chunk, len(x)) * rows * y.shape[2]) for _ in second]
        for part_x, part_y, part in zip(x.split(chunk), y.split(chunk), result.split(chunk), strict=True):
            values_x = [leg.to_grid(part_x, memory) for leg, memory in zip(first, memory_x, strict=True)]
            values_y = [leg.to_grid(part_y, memory) for leg, memory in zip(second, memory_y, strict=True)]
            for number, (transform, values) in enumerate(_products(values_x, values_y, third)):
                if values.shape[2] > channels:
                    values = values.sum(2, keepdim=True)
                transform.from_grid(values, part, add=number > 0)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        first, second, third = ctx.legs
        (gradient,) = gradients
        of_x = of_y = None
        if ctx.needs_input_grad[0]:
            of_x = GridProduct.apply(gradient, y, x.shape[2], third, second, first)
        if ctx.needs_input_grad[1]:
            of_y = GridProduct.apply(gradient, x, y.shape[2], third, first, second)
        return of_x, of_y, None, None, None, None


def _have_kernel(x: Tensor, y: Tensor, channels: int, legs: tuple[Leg, Leg, Leg]) -> bool:
    """Whether there is a kernel for this product, which is one by a matrix for each leg, and for the device."""
    widest = max(x.shape[2], y.shape[2])
    return (
        widest >= _FEWEST_CHANNELS
        and channels in (1, widest)
        and all(len(leg) == 1 and isinstance(leg[0], DenseTransform) for leg in legs)
        and available_backend(x.device) != "reference"
    )


def _products(x: list[Tensor], y: list[Tensor], third: Leg) -> Iterator[tuple[Transform, Tensor]]:
    """Products of the values of x with as many channels or one of y, and the transform that each belongs to.

    A leg of one transform serves all terms. Values of x are overwritten where they are needed no more.
    """
    if len(third) == 1:
        total = x[0].mul_(y[0])
        for more_x, more_y in zip(x[1:], y[1:], strict=True):
            total.addcmul_(more_x, more_y)
        yield third[0], total
    else:
        for term, transform in enumerate(third):
            yield transform, x[term % len(x)] * y[term % len(y)]


def _chunk(like: Tensor, numbers: int) -> int:
    """Rows of the batch that are computed together, when each has so many numbers on the grid."""
    size = _CACHED_BYTES * torch.get_num_threads() if like.device.type == "cpu" else _DEVICE_BYTES
    return max(1, size // (like.element_size() * numbers))
