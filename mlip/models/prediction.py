"""What a potential computes."""

from typing import NamedTuple

from torch import Tensor


class Prediction(NamedTuple):
    """What a potential computes for a graph of `structures` structures with `atoms` atoms in all.

    Attributes:
        energy: Total energy, reference energies included, eV, float64 [structures].
        energies: Energy of each atom, eV, float64 [atoms].
        forces: eV/Å, float64 [atoms, 3]; None where not asked for.
        stress: (1/V) dE/d(strain), eV/Å³, ASE's sign, float64 [structures, 3, 3]; None where not asked for, zero for a
            structure whose cell has no volume.
        charges: Of the atoms, e, float64 [atoms]; None without `long_range`.
        dipole: Σ q r about the origin, e Å, float64 [structures, 3]; that of a periodic structure depends on where the
            cell is cut, that of a charged one on the origin. None without `long_range`.
        total_charge: What predicted charges add up to before they are corrected, e, float64 [structures]; None with
            charges of other kinds.
    """

    energy: Tensor
    energies: Tensor
    forces: Tensor | None
    stress: Tensor | None
    charges: Tensor | None = None
    dipole: Tensor | None = None
    total_charge: Tensor | None = None

    def detach(self) -> "Prediction":
        """The same without gradients."""
        return self._replace(**{name: value.detach() for name, value in self._asdict().items() if value is not None})
