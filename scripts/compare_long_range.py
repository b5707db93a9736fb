"""What charges in a model are for: binding of charged molecules beyond the separations that it was trained at.

    python scripts/compare_long_range.py ../shared/data/charge_dimers/charge-charge.xyz -o results

Every curve of the file is one pair of molecules at growing distance. Models learn the nearer half of each curve, and
the molecules by themselves with their energies and total charges, and are tested on the farther half. Two models of
equal size are trained by `mlip train configs/charge_dimers.yaml`, one of them without `long_range`. Binding energies
are those of the dimer, by a model or the file, less those of both molecules in the file.
"""

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import ase.io
import matplotlib
import numpy as np
from ase import Atoms, units
from ase.neighborlist import build_neighbor_list, natural_cutoffs
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from mlip import MLIPCalculator

CONFIG = Path(__file__).parents[1] / "configs" / "charge_dimers.yaml"
COULOMB = units._e / (4e-10 * np.pi * units._eps0)  # eV Å
FAR = np.array([200.0, 300.0, 450.0, 700.0, 1000.0])  # Å, where the asymptote is fitted


@dataclass(frozen=True)
class Dimer:
    """A pair of molecules.

    Attributes:
        atoms: Both, in no cell, with `forces` as an array.
        energy: eV.
        first: Atoms of the first molecule.
        distance: Å, as the file says.
        charges: Of both molecules, e.
        molecules: Energies of both molecules by themselves, eV.
    """

    atoms: Atoms
    energy: float
    first: NDArray[np.bool_]
    distance: float
    charges: tuple[float, float]
    molecules: tuple[float, float]

    @property
    def binding(self) -> float:
        """Binding energy of the file, eV."""
        return self.energy - sum(self.molecules)

    def parts(self) -> tuple[Atoms, Atoms]:
        """Both molecules by themselves, with their total charges."""
        parts = (self.atoms[self.first], self.atoms[~self.first])
        for part, charge in zip(parts, self.charges, strict=True):
            del part.arrays["forces"]
            part.info = {"charge": charge}
        return parts

    def apart(self, distance: float) -> Atoms:
        """The dimer with the second molecule moved along the line between both centres by so many Å more."""
        atoms = self.atoms.copy()
        atoms.info = {"charge": 0.0}
        line = atoms.positions[~self.first].mean(0) - atoms.positions[self.first].mean(0)
        atoms.positions[~self.first] += distance * line / np.linalg.norm(line)
        return atoms


def read_curves(path: Path) -> list[list[Dimer]]:
    """Curves of the file, each by growing distance."""
    curves: list[list[Dimer]] = []
    for atoms in ase.io.read(path, ":"):
        energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
        atoms.calc, atoms.pbc = None, False
        atoms.arrays["forces"] = forces
        bonds = build_neighbor_list(atoms, natural_cutoffs(atoms, 1.15), skin=0.0, self_interaction=False)
        count, labels = connected_components(bonds.get_connectivity_matrix(), directed=False)
        assert count == 2, f"a frame of {path} has {count} molecules"
        info = atoms.info
        dimer = Dimer(
            atoms,
            energy,
            labels == labels[0],
            float(info["distance"]),
            (float(info["chargeA"]), float(info["chargeB"])),
            (float(info["energyA"]), float(info["energyB"])),
        )
        last = curves[-1][-1] if curves else None
        if last is None or last.molecules != dimer.molecules or dimer.distance < last.distance:
            curves.append([])
        curves[-1].append(dimer)
    return curves


def write_data(curves: list[list[Dimer]], folder: Path) -> None:
    """Nearer halves and molecules as training and validation data."""
    train: list[Atoms] = []
    validation: list[Atoms] = []
    for curve in curves:
        for number, dimer in enumerate(curve[: (len(curve) + 1) // 2]):
            atoms = dimer.atoms.copy()
            atoms.info = {"charge": 0.0, "energy": dimer.energy}
            (validation if number == 3 else train).append(atoms)
        for part, energy in zip(curve[0].parts(), curve[0].molecules, strict=True):
            part.info["energy"] = energy
            train.append(part)
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "train.xyz", train)
    ase.io.write(folder / "validation.xyz", validation)


def train(name: str, folder: Path, overrides: list[str]) -> Path:
    """Train a model, and return its file."""
    output = folder / name
    command = [sys.executable, "-m", "mlip", "train", str(CONFIG), f"output={output}"]
    data = [f"data.train={folder / 'train.xyz'}", f"data.validation={folder / 'validation.xyz'}"]
    subprocess.run([*command, *data, *overrides], check=True)
    return output / "model.mlip"


def binding_energies(calculator: MLIPCalculator, curve: list[Dimer], structures: list[Atoms]) -> NDArray[np.float64]:
    """Energies of structures less those of the curve's molecules, eV."""
    energies = np.array([float(calculator.get_potential_energy(atoms)) for atoms in structures])
    return energies - sum(curve[0].molecules)


def asymptote(calculator: MLIPCalculator, curve: list[Dimer]) -> float:
    """Factor A, eV Å, of `A / r + B / r^2 + C` fitted to the energy far away."""
    dimer = curve[-1]
    energies = binding_energies(calculator, curve, [dimer.apart(far) for far in FAR])
    centres = [dimer.atoms.positions[part].mean(0) for part in (dimer.first, ~dimer.first)]
    distances = FAR + np.linalg.norm(centres[1] - centres[0])
    design = np.stack([1 / distances, 1 / distances**2, np.ones_like(distances)], 1)
    return float(np.linalg.lstsq(design, energies, rcond=None)[0][0])


def draw(curves: list[list[Dimer]], found: dict[str, list[NDArray[np.float64]]], path: Path) -> None:
    """Binding curves of the file and of both models."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = 5
    figure, axes = plt.subplots(
        -(-len(curves) // columns), columns, figsize=(13, 5), sharex=True, sharey=True, squeeze=False
    )
    styles = {"long range": ("#0072b2", "o"), "short range": ("#d55e00", "s")}
    for number, (axis, curve) in enumerate(zip(axes.flat, curves, strict=False)):
        distances = [dimer.distance for dimer in curve]
        axis.axvspan(
            0.0, distances[(len(curve) - 1) // 2] + 0.05, color="0.92", label="trained" if number == 0 else None
        )
        axis.plot(distances, [dimer.binding for dimer in curve], color="black", label="reference")
        for name, energies in found.items():
            color, marker = styles[name]
            axis.plot(distances, energies[number], marker, color=color, markersize=3, label=name)
        axis.set_title(f"{curve[0].parts()[0].symbols} + {curve[0].parts()[1].symbols}", fontsize=7)
        axis.set_xlim(3.4, 9.0)
    for axis in axes[-1]:
        axis.set_xlabel("distance, Å")
    for axis in axes[:, 0]:
        axis.set_ylabel("binding energy, eV")
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="charge-charge.xyz")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"), help="folder of charge_dimers.png")
    parser.add_argument("--folder", type=Path, default=Path("runs/charge_dimers"), help="of data and trained models")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--evaluate", action="store_true", help="take the models that are in the folder")
    arguments = parser.parse_args()
    curves = read_curves(arguments.data)
    if not arguments.evaluate:
        shutil.rmtree(arguments.folder, ignore_errors=True)
        write_data(curves, arguments.folder)
    kinds = {"short range": ["model.long_range=null", "loss.total_charge=0.0"], "long range": []}
    found: dict[str, list[NDArray[np.float64]]] = {}
    factors: list[float] = []
    epochs = [f"epochs={arguments.epochs}", f"patience={arguments.epochs}"]
    for name, overrides in kinds.items():
        folder_name = name.replace(" ", "_")
        model = arguments.folder / folder_name / "model.mlip"
        if not arguments.evaluate:
            train(folder_name, arguments.folder, [*overrides, *epochs])
        calculator = MLIPCalculator(model, dtype="float64")
        structures = [[dimer.apart(0.0) for dimer in curve] for curve in curves]
        found[name] = [
            binding_energies(calculator, curve, each) for curve, each in zip(curves, structures, strict=True)
        ]
        if name == "long range":
            factors = [asymptote(calculator, curve) for curve in curves]
    arguments.output.mkdir(parents=True, exist_ok=True)
    draw(curves, found, arguments.output / "charge_dimers.png")
    report(curves, found, factors)


def report(curves: list[list[Dimer]], found: dict[str, list[NDArray[np.float64]]], factors: list[float]) -> None:
    """Print the errors as a table."""
    print("| molecules | largest distance, Å | binding, eV | error, short range | error, long range | A, eV Å |")
    print("|---|---:|---:|---:|---:|---:|")
    errors = {name: np.array([values[-1] for values in each]) for name, each in found.items()}
    bindings = np.array([curve[-1].binding for curve in curves])
    for number, curve in enumerate(curves):
        parts = curve[-1].parts()
        print(
            f"| {parts[0].symbols} + {parts[1].symbols} | {curve[-1].distance:.2f} | {bindings[number]:.3f} | "
            f"{errors['short range'][number] - bindings[number]:+.3f} | "
            f"{errors['long range'][number] - bindings[number]:+.3f} | {factors[number]:.3f} |"
        )
    root = {name: float(np.sqrt(np.mean((each - bindings) ** 2))) for name, each in errors.items()}
    tests = {
        name: np.concatenate([
            values[(len(curve) + 1) // 2 :] - [dimer.binding for dimer in curve[(len(curve) + 1) // 2 :]]
            for values, curve in zip(each, curves, strict=True)
        ])
        for name, each in found.items()
    }  # fmt: skip
    print()
    for name, value in root.items():
        whole = float(np.sqrt(np.mean(tests[name] ** 2)))
        print(f"{name}: root mean square error {value:.4f} eV at the largest distances, {whole:.4f} eV at all tested")
    print(f"ratio at the largest distances: {root['short range'] / root['long range']:.1f}")
    worst = max(abs(factor / COULOMB + 1.0) for factor in factors)
    print(f"asymptote: {min(factors):.3f} to {max(factors):.3f} eV Å; -{COULOMB:.3f} within {100 * worst:.2f} %")


if __name__ == "__main__":
    main()
