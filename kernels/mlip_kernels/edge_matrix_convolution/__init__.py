"""Convolution by a matrix of each edge that all channels share, one per row of weights.

`reference` holds the definition, `blocked` the same function as batched matrix products over blocks of edges.
"""

from torch import nn

from mlip_kernels.edge_matrix_convolution.blocked import BlockedEdgeMatrixConvolution
from mlip_kernels.edge_matrix_convolution.reference import ReferenceEdgeMatrixConvolution

IMPLEMENTATIONS: dict[str, type[nn.Module]] = {
    "reference": ReferenceEdgeMatrixConvolution,
    "blocked": BlockedEdgeMatrixConvolution,
}

__all__ = ["IMPLEMENTATIONS", "BlockedEdgeMatrixConvolution", "ReferenceEdgeMatrixConvolution"]
