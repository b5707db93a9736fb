"""Sum of rows that belong to the same segment: atoms of a structure, edges of an atom."""

from mlip_kernels.segment_sum.reference import segment_sum

__all__ = ["segment_sum"]
