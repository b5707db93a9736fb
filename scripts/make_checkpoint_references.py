"""Write small mace-torch checkpoints, and what mace-torch computes with them: the references of `tests/interop`.

Runs in an environment of its own:

    pip install mace-torch==0.3.16 safetensors
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python scripts/make_checkpoint_references.py      # its e3nn unpickles a file

Each model is saved as mace-torch saves it and compressed, since its coupling tensors are mostly zeros:
`tests/interop/data/mace_NAME.model.xz`. `mace.safetensors` has the structures and, for each model and head, the
energies, forces and (for cells periodic in all directions) stress that its ASE calculator gives in float64. Weights are
random and wide, so that no part of a network is small beside the others.
"""

import io
import json
import lzma
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "interop" / "data"
WEIGHT_SPREAD = 1.3
NATIVE = {
    "residual": "RealAgnosticResidualInteractionBlock",
    "mixing": "RealAgnosticInteractionBlock",
    "density_residual": "RealAgnosticDensityResidualInteractionBlock",
    "density_mixing": "RealAgnosticDensityInteractionBlock",
}

COMMON: dict[str, Any] = {
    "model_class": "ScaleShiftMACE",
    "dtype": "float64",
    "atomic_numbers": [1, 6, 7, 8],
    "atomic_energies": [-1.5, -6.2, -5.3, -4.1],
    "atomic_inter_scale": 0.8,
    "atomic_inter_shift": 0.1,
    "avg_num_neighbors": 9.0,
    "MLP_irreps": "3x0e",
    "radial_MLP": [6, 5],
    "num_interactions": 2,
    "num_bessel": 5,
    "num_polynomial_cutoff": 5,
    "r_max": 4.5,
    "first": "residual",
    "later": "residual",
}
TWO_HEADS: dict[str, Any] = {
    "heads": ["cheap", "dear"],
    "atomic_energies": [[-1.5, -6.2, -5.3, -4.1], [-1.1, -6.9, -5.0, -4.4]],
    "atomic_inter_scale": [0.8, 1.1],
    "atomic_inter_shift": [0.1, -0.3],
}
MODELS: dict[str, dict[str, Any]] = {
    "vectors": {"hidden_irreps": "4x0e+4x1o", "max_ell": 2, "correlation": 3},
    "unscaled": {
        "model_class": "MACE",
        "hidden_irreps": "3x0e+3x1o+3x2e",
        "max_ell": 2,
        "correlation": 2,
        "first": "mixing",
        "pair_repulsion": True,
    },
    "mixing": {
        "hidden_irreps": "3x0e+3x2e",
        "max_ell": 3,
        "correlation": [2, 1, 2],
        "num_interactions": 3,
        "first": "mixing",
        "later": "mixing",
        "radial_type": "gaussian",
    },
    "repulsion": {
        "hidden_irreps": "4x0e",
        "max_ell": 1,
        "correlation": 3,
        "first": "density_mixing",
        "later": "density_residual",
        "pair_repulsion": True,
        "num_polynomial_cutoff": 6,
        **TWO_HEADS,
    },
    "single": {
        "dtype": "float32",
        "hidden_irreps": "4x0e+4x1o",
        "max_ell": 2,
        "correlation": 2,
        "num_interactions": 1,
        "first": "density_residual",
        "r_max": 4.3,
        "pair_repulsion": True,
    },
    "single precision": {
        "dtype": "float32",
        "hidden_irreps": "3x0e+3x1e+3x1o",
        "max_ell": 2,
        "correlation": 2,
        "later": "density_mixing",
        **TWO_HEADS,
    },
    "agnesi": {
        "hidden_irreps": "4x0e",
        "max_ell": 1,
        "correlation": 2,
        "first": "density_mixing",
        "later": "density_residual",
        "distance_transform": "Agnesi",
    },
    "soft": {
        "dtype": "float32",
        "hidden_irreps": "3x0e+3x1o",
        "max_ell": 1,
        "correlation": 1,
        "distance_transform": "Soft",
    },
    "options": {
        "hidden_irreps": "3x0e+3x1o",
        "max_ell": 2,
        "correlation": 2,
        "use_agnostic_product": True,
        "use_last_readout_only": True,
        "keep_last_layer_irreps": True,
    },
}


def main() -> None:
    """Write every model and the file of what they compute."""
    warnings.filterwarnings("ignore")  # TorchScript's deprecations, raised inside the other packages
    torch.set_num_threads(1)
    try:
        from mace.calculators import MACECalculator
    except ModuleNotFoundError as error:
        sys.exit(
            f"Error: '{error.name}' is not installed here; see the head of {Path(__file__).name} for what to install."
        )
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    for number, atoms in enumerate(structures()):
        tensors[f"structures/{number}/numbers"] = torch.tensor(atoms.numbers, dtype=torch.int64)
        tensors[f"structures/{number}/positions"] = torch.tensor(atoms.positions)
        tensors[f"structures/{number}/cell"] = torch.tensor(atoms.cell.array)
        tensors[f"structures/{number}/pbc"] = torch.tensor(atoms.pbc)
    FOLDER.mkdir(parents=True, exist_ok=True)
    size = 0
    for seed, (label, own) in enumerate(MODELS.items()):
        hyper_parameters = COMMON | own
        model = build(hyper_parameters, seed)
        path = FOLDER / f"mace_{label.replace(' ', '_')}.model.xz"
        buffer = io.BytesIO()
        torch.save(model, buffer)
        write(path, lzma.compress(buffer.getvalue()))
        size += path.stat().st_size
        for head in hyper_parameters.get("heads", ["Default"]):
            calculator = MACECalculator(models=[model.double()], device="cpu", default_dtype="float64", head=head)
            for number, atoms in enumerate(structures()):
                for key, value in evaluate(calculator, atoms).items():
                    tensors[f"{label}/{head}/{number}/{key}"] = torch.tensor(np.ascontiguousarray(value))
        print(f"{path.name}: {sum(p.numel() for p in model.parameters())} weights, {path.stat().st_size / 1000:.0f} kB")
    versions = {package: version(package) for package in ("mace-torch", "e3nn", "torch")}
    content = save(tensors, {"reference": json.dumps({"models": MODELS, "versions": versions})})
    write(FOLDER / "mace.safetensors", content)
    print(f"{FOLDER}: {(size + len(content)) / 1000:.0f} kB")


def write(path: Path, content: bytes) -> None:
    """Write a file beside its place, then rename it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def structures() -> list[Atoms]:
    """A molecule whose nuclei repel, with an atom out of reach, and a skewed cell smaller than the cutoff."""
    random = np.random.default_rng(7)
    glycine = molecule("CH3CONH2") + Atoms("C", positions=[[0.0, 0.0, 40.0]])
    glycine.positions *= 0.85
    glycine.positions += random.normal(0.0, 0.05, glycine.positions.shape)
    cell = [[3.4, 0.0, 0.0], [1.1, 3.6, 0.0], [-0.7, 0.9, 4.1]]
    fractional = [[0.0, 0.0, 0.0], [0.25, 0.1, 0.1], [0.1, 0.45, 0.7], [0.6, 0.6, 0.35], [0.75, 0.2, 0.8]]
    return [glycine, Atoms("COHHC", scaled_positions=fractional, cell=cell, pbc=True)]


def build(hyper_parameters: dict[str, Any], seed: int) -> torch.nn.Module:
    """A model with random weights, in the precision asked for."""
    from e3nn import o3
    from mace import modules

    own = dict(hyper_parameters)
    kind, dtype, first, later = (own.pop(name) for name in ("model_class", "dtype", "first", "later"))
    if kind == "MACE":
        del own["atomic_inter_scale"], own["atomic_inter_shift"]
    own |= {
        "interaction_cls_first": modules.interaction_classes[NATIVE[first]],
        "interaction_cls": modules.interaction_classes[NATIVE[later]],
        "hidden_irreps": o3.Irreps(own["hidden_irreps"]),
        "MLP_irreps": o3.Irreps(own["MLP_irreps"]),
        "atomic_energies": np.array(own["atomic_energies"]),
        "num_elements": len(own["atomic_numbers"]),
        "gate": torch.nn.functional.silu,
    }
    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(seed)
    model: torch.nn.Module = getattr(modules, kind)(**own)
    for parameter in model.parameters():
        parameter.data = WEIGHT_SPREAD * torch.randn(parameter.shape)
    torch.set_default_dtype(torch.float64)  # What its repulsion is computed in.
    return model


def evaluate(calculator: Any, atoms: Atoms) -> dict[str, Any]:
    """What mace-torch's calculator gives in float64."""
    atoms = atoms.copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    results = {
        "energy": np.squeeze(calculator.results["energy"]),
        "energies": calculator.results["node_energy"],
        "forces": forces,
    }
    return results | ({"stress": atoms.get_stress(voigt=False)} if atoms.pbc.all() else {})


if __name__ == "__main__":
    main()
