"""Definition of the factorised product in plain torch."""

import torch
from torch import Tensor, nn


class ReferenceFactorisedProduct(nn.Module):
    """`z[n, k, c] = sum over r of C[r, k] (sum_i A[r, i] x[n, i, c]) (sum_j B[r, j] y[n, j, c])`."""

    def forward(
        self, x: Tensor, y: Tensor, first: Tensor, second: Tensor, third: Tensor, summed: bool = False
    ) -> Tensor:
        """Multiply.

        Args:
            x: [rows, d1, channels]; x or y may have one channel for all of the other's.
            y: [rows, d2, channels].
            first: A, values of the components of x at the points, [points, d1].
            second: B, [points, d2].
            third: C, by which values at the points make the result's components, [points, d3].
            summed: Whether to sum the result over channels.

        Returns:
            [rows, d3, channels], or with one channel.
        """
        return product(x, y, first, second, third, summed)


def product(x: Tensor, y: Tensor, first: Tensor, second: Tensor, third: Tensor, summed: bool) -> Tensor:
    """The function of `ReferenceFactorisedProduct.forward`."""
    values = torch.einsum("ri,nic->nrc", first, x) * torch.einsum("rj,njc->nrc", second, y)
    if summed:
        values = values.sum(2, keepdim=True)
    return torch.einsum("rk,nrc->nkc", third, values)
