"""Convolution by a matrix of each edge that all channels share, one per row of weights.

`reference` holds the definition, `streamed` the same function over short runs of edges, whose products are not kept.
"""

from torch import nn

from mlip_kernels.edge_matrix_convolution.reference import ReferenceEdgeMatrixConvolution
from mlip_kernels.edge_matrix_convolution.streamed import StreamedEdgeMatrixConvolution

IMPLEMENTATIONS: dict[str, type[nn.Module]] = {
    "reference": ReferenceEdgeMatrixConvolution,
    "streamed": StreamedEdgeMatrixConvolution,
}

__all__ = ["IMPLEMENTATIONS", "ReferenceEdgeMatrixConvolution", "StreamedEdgeMatrixConvolution"]
