"""Sums of products of functions of one coordinate each: from particles to coefficient tensors, and back.

`reference` holds the definition in plain torch, `cpu` and `gpu` the kernels, `op` binds them to torch.
"""

from mlip_kernels.separable_moments.op import separable_evaluation, separable_moments

__all__ = ["separable_evaluation", "separable_moments"]
