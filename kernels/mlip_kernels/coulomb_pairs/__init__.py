"""Coulomb potentials by sums over pairs: screened ones over a list of neighbours, bare ones over all pairs.

`reference` holds the definition in plain torch, `cpu` and `gpu` the kernels, `op` and `energies` bind them to torch.
"""

from mlip_kernels.coulomb_pairs.energies import direct_energies, screened_energies
from mlip_kernels.coulomb_pairs.op import direct_potential, screened_potential
from mlip_kernels.coulomb_pairs.screening import Screening

__all__ = ["Screening", "direct_energies", "direct_potential", "screened_energies", "screened_potential"]
