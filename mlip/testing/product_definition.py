"""Tensor products by their definition: a sum over paths in numpy that shares nothing with any backend."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from mlip.tensor_products import TensorProduct
from mlip.tensor_products.couplings import couples, coupling_tensor


class Entry(NamedTuple):
    """An entry of irreps and its columns in features in e3nn's layout."""

    channels: int
    irrep: Irrep
    columns: slice


def product_by_definition(product: TensorProduct, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """What a product should return.

    Args:
        product: Says what is computed; it is not called.
        x: [batch, irreps_in1.dim], float64.
        y: [batch, irreps_in2.dim].
        weight: [batch, weight_numel]; not given where there are no weights.

    Returns:
        [batch, irreps_out.dim], float64.
    """
    operands, result = (x.detach().numpy(), y.detach().numpy()), np.zeros((len(x), product.irreps_out.dim))
    weights = np.zeros((len(x), 0)) if weight is None else weight.detach().numpy()
    for first, second, out in _groups(product):
        channels = out[0].channels
        spin = (max(entry.irrep.l for entry in (*first, *second, *out)) + 1) // 2
        paths = [
            (i, j, k)
            for i, entry1 in enumerate(first)
            for j, entry2 in enumerate(second)
            for k, entry3 in enumerate(out)
            if entry1.irrep.p * entry2.irrep.p == entry3.irrep.p
            and couples(product.coupling, entry1.irrep.l, entry2.irrep.l, entry3.irrep.l, spin)
        ]
        entries = len(first) + len(second) + len(out)
        rows = {"none": 0, "shared": 1, "per_path": len(paths), "per_degree": entries}[product.weights]
        of_group, weights = weights[:, : rows * channels], weights[:, rows * channels :]
        of_group = of_group.reshape(len(x), rows, channels)
        for number, (i, j, k) in enumerate(paths):
            places = {
                "none": [],
                "shared": [0],
                "per_path": [number],
                "per_degree": [i, len(first) + j, len(first) + len(second) + k],
            }[product.weights]
            result[:, out[k].columns] += np.einsum(
                "bc,bci,bcj,ijk->bck",
                of_group[:, places].prod(1),
                _channels(operands[0], first[i], channels),
                _channels(operands[1], second[j], channels),
                coupling_tensor(product.coupling, first[i].irrep.l, second[j].irrep.l, out[k].irrep.l, spin),
                optimize=True,
            ).reshape(len(x), -1)
    return torch.tensor(result)


def _groups(product: TensorProduct) -> Iterator[tuple[list[Entry], list[Entry], list[Entry]]]:
    """Entries that couple among themselves, for each number of channels in the order of irreps_out."""
    in1, in2, out = (_entries(irreps) for irreps in (product.irreps_in1, product.irreps_in2, product.irreps_out))
    for channels in dict.fromkeys(entry.channels for entry in out):
        yield (
            [entry for entry in in1 if entry.channels == channels],
            [entry for entry in in2 if product.mode == "channelwise" or entry.channels == channels],
            [entry for entry in out if entry.channels == channels],
        )


def _entries(irreps: Irreps) -> list[Entry]:
    return [Entry(mul, irrep, columns) for (mul, irrep), columns in zip(irreps, irreps.slices(), strict=True)]


def _channels(features: np.ndarray, entry: Entry, channels: int) -> np.ndarray:
    """An entry's columns as [batch, channels, components]; a single channel serves for all."""
    own = features[:, entry.columns].reshape(len(features), entry.channels, entry.irrep.dim)
    return np.broadcast_to(own, (len(features), channels, entry.irrep.dim))
