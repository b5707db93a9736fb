"""Units of electrostatics: charges in e, lengths in Å, energies in eV, potentials in V."""

import ase.units

COULOMB_CONSTANT: float = ase.units.Hartree * ase.units.Bohr  # eV Å/e², and V Å/e
