"""Linear maps that mix the channels of every irrep: many small matrix products in one call.

`reference` holds the definition, `op` the programs of `cpu` as torch operations. There is no kernel for GPUs, whose
libraries of matrix products serve them well.
"""

from mlip_kernels.channel_mixing.op import KernelMixing, fits_vectors
from mlip_kernels.channel_mixing.reference import ReferenceMixing
from mlip_kernels.channel_mixing.table import MixingBlock, MixingTable, RowGroups

__all__ = ["KernelMixing", "MixingBlock", "MixingTable", "ReferenceMixing", "RowGroups", "fits_vectors"]
