"""Coulomb potentials by sums over pairs: screened ones over a list of neighbours, bare ones over all pairs.

`reference` holds the definition in plain torch, `cpu` and `gpu` the kernels, `op` binds them to torch.
"""

from mlip_kernels.coulomb_pairs.op import direct_potential, screened_potential

__all__ = ["direct_potential", "screened_potential"]
