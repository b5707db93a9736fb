"""Write what torch-pme's Ewald sum gives for random charges in boxes: the references of `tests/electrostatics`.

Runs in an environment of its own:

    pip install torch-pme==0.5.0 vesin safetensors
    python scripts/make_torch_pme_references.py

Writes `tests/electrostatics/references/torch_pme.safetensors`: for each box cell, positions (Å), charges (e), energy
(e²/Å) and forces (e²/Å²) in float64, from sums that are converged to rounding in real and in reciprocal space. The
metadata hold the version as JSON.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torchpme import CoulombPotential, EwaldCalculator
from vesin import NeighborList

FILE = Path(__file__).resolve().parent.parent / "tests" / "electrostatics" / "references" / "torch_pme.safetensors"
CELLS = {
    "cubic": [[12.0, 0.0, 0.0], [0.0, 12.0, 0.0], [0.0, 0.0, 12.0]],
    "orthorhombic": [[9.0, 0.0, 0.0], [0.0, 13.0, 0.0], [0.0, 0.0, 17.0]],
    "skewed": [[11.0, 0.0, 0.0], [3.5, 10.0, 0.0], [-2.5, 3.0, 12.0]],
}
CHARGES = 80
CUTOFF = 8.0  # Å
ROUNDING = 1e-16


def main() -> None:
    """Write the file."""
    torch.set_default_dtype(torch.float64)  # torch-pme's constants are in the default dtype
    tensors: dict[str, torch.Tensor] = {}
    for seed, (name, vectors) in enumerate(CELLS.items()):
        cell = torch.tensor(vectors, dtype=torch.float64)
        positions, charges = random_system(cell, seed)
        energy, forces = ewald(cell, positions, charges)
        values = {"cell": cell, "positions": positions, "charges": charges, "energy": energy, "forces": forces}
        tensors |= {f"{name}.{key}": value for key, value in values.items()}
        print(f"{name}: {float(energy):.12f} e²/Å")
    FILE.parent.mkdir(exist_ok=True)
    save_file(tensors, FILE, metadata={"versions": json.dumps({"torch-pme": version("torch-pme")})})


def random_system(cell: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions on a grid of 5³ places, displaced, some of them outside of the cell, and neutral charges."""
    random = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    places = places[random.permutation(len(places))[:CHARGES]]
    fractional = (places + 0.5 + random.uniform(-0.25, 0.25, places.shape)) / 5 + random.integers(-1, 2, places.shape)
    charges = random.normal(0, 0.5, CHARGES)
    return torch.tensor(fractional) @ cell, torch.tensor(charges - charges.mean())


def ewald(cell: torch.Tensor, positions: torch.Tensor, charges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Energy and forces by torch-pme."""
    alpha = math.sqrt(math.log(1 / ROUNDING)) / CUTOFF
    smearing = 1 / (alpha * math.sqrt(2))
    # Wave vectors go to π/wavelength; exp(−k²/4α²) is below rounding there.
    wavelength = math.pi / (2.2 * alpha * math.sqrt(math.log(1 / ROUNDING)))
    search = NeighborList(cutoff=CUTOFF, full_list=True)
    first, second, shifts = search.compute(positions.numpy(), cell.numpy(), True, "ijS")
    first, second = (torch.from_numpy(index.astype(np.int64)) for index in (first, second))
    places = positions.clone().requires_grad_()
    vectors = places[second] - places[first] + torch.from_numpy(shifts.astype(np.float64)) @ cell
    calculator = EwaldCalculator(
        CoulombPotential(smearing=smearing), lr_wavelength=wavelength, full_neighbor_list=True
    ).to(torch.float64)
    pairs = torch.stack([first, second], dim=1)
    potential = calculator(charges[:, None], cell, places, pairs, vectors.norm(dim=1))
    energy = (charges[:, None] * potential).sum()
    (gradient,) = torch.autograd.grad(energy, places)
    return energy.detach(), -gradient


if __name__ == "__main__":
    main()
