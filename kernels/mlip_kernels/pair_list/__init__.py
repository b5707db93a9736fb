"""Lists of the pairs of points nearer than a cutoff, images in periodic cells included.

`reference` finds them by vesin, `cpu` by a grid of small cells in Numba, several times faster.
"""

from mlip_kernels.pair_list.found import FoundPairs
from mlip_kernels.pair_list.search import find_pairs

__all__ = ["FoundPairs", "find_pairs"]
