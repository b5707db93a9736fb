"""Write what mace-torch and NequIP compute for small models with random weights: the references of `tests/models`.

Each runs in an environment of its own that has the other package, safetensors and ASE:

    pip install mace-torch==0.3.16 safetensors
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python scripts/make_peer_references.py mace      # its e3nn unpickles a file

    pip install nequip==0.19.1 safetensors
    python scripts/make_peer_references.py nequip

Writes `tests/models/references/NAME.safetensors`: the structures, and for each model its weights and, in float64, the
energy of each atom, forces and (for cells periodic in all directions) stress; for mace-torch the features after the
first layer too. The metadata hold the hyper-parameters as the other package names them, and the versions, as JSON.
Weights are rounded to float32 before anything is computed, so that four bytes hold them exactly.
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "models" / "references"
ELEMENTS = ["H", "C", "O"]
ATOMIC_NUMBERS = [1, 6, 8]
REFERENCE_ENERGIES = [-1.5, -6.2, -4.1]  # eV, small beside the rest so that they hide nothing
WEIGHT_SPREAD = 1.3
# Coefficients below it are rounding; true ones are above 1e-3.
ROUNDING = 1e-12

MACE_COMMON: dict[str, Any] = {
    "atomic_numbers": ATOMIC_NUMBERS,
    "atomic_energies": REFERENCE_ENERGIES,
    "atomic_inter_scale": 0.8,
    "atomic_inter_shift": 0.1,
    "avg_num_neighbors": 9.0,
    "MLP_irreps": "6x0e",
    "radial_MLP": [12, 10],
}
MACE_MODELS: dict[str, dict[str, Any]] = {
    "vectors": {
        "hidden_irreps": "8x0e+8x1o",
        "max_ell": 3,
        "correlation": 3,
        "num_interactions": 2,
        "r_max": 5.0,
        "radial_type": "bessel",
        "num_bessel": 8,
        "num_polynomial_cutoff": 5,
    },
    "tensors": {
        "hidden_irreps": "4x0e+4x1o+4x1e+4x2e",
        "max_ell": 2,
        "correlation": 2,
        "num_interactions": 3,
        "r_max": 4.0,
        "radial_type": "gaussian",
        "num_bessel": 6,
        "num_polynomial_cutoff": 6,
    },
    "one layer": {
        "hidden_irreps": "4x0e",
        "max_ell": 2,
        "correlation": 4,
        "num_interactions": 1,
        "r_max": 4.5,
        "radial_type": "bessel",
        "num_bessel": 5,
        "num_polynomial_cutoff": 2,
    },
}

NEQUIP_COMMON: dict[str, Any] = {
    "type_names": ELEMENTS,
    "avg_num_neighbors": 9.0,
    "per_type_energy_scales": {"H": 0.7, "C": 0.8, "O": 0.9},
    "per_type_energy_shifts": dict(zip(ELEMENTS, REFERENCE_ENERGIES, strict=True)),
}
NEQUIP_MODELS: dict[str, dict[str, Any]] = {
    "natural parity": {
        "irreps_edge_sh": "1x0e+1x1o+1x2e+1x3o",
        "feature_irreps_hidden": ["8x0e+4x1o+3x2e+2x3o", "8x0e"],
        "type_embed_num_features": 8,
        "radial_mlp_depth": [2, 2],
        "radial_mlp_width": [12, 12],
        "num_bessels": 8,
        "polynomial_cutoff_p": 6,
        "r_max": 5.0,
    },
    "both parities": {
        "irreps_edge_sh": "1x0e+1x1o+1x2e",
        "feature_irreps_hidden": ["5x0e+4x0o+3x1e+4x1o+2x2e+3x2o"] * 3 + ["5x0e"],
        "type_embed_num_features": 4,
        "radial_mlp_depth": [1] * 4,
        "radial_mlp_width": [12] * 4,
        "num_bessels": 6,
        "polynomial_cutoff_p": 5,
        "r_max": 4.0,
    },
    # It takes six layers for a pseudoscalar to reach the energy.
    "pseudoscalars": {
        "irreps_edge_sh": "1x0e+1x1o",
        "feature_irreps_hidden": ["4x0e+3x0o+3x1e+2x1o"] * 5 + ["4x0e"],
        "type_embed_num_features": 4,
        "avg_num_neighbors": 100.0,
        "radial_mlp_depth": [1] * 6,
        "radial_mlp_width": [8] * 6,
        "num_bessels": 8,
        "polynomial_cutoff_p": 6,
        "r_max": 4.5,
    },
    "rotations": {
        "type_names": ["O", "H", "C"],
        "irreps_edge_sh": "1x0e+1x1e+1x2e",
        "feature_irreps_hidden": ["6x0e+4x1e+3x2e"] * 2 + ["6x0e"],
        "type_embed_num_features": 6,
        "radial_mlp_depth": [1] * 3,
        "radial_mlp_width": [12] * 3,
        "num_bessels": 8,
        "polynomial_cutoff_p": 6,
        "r_max": 4.5,
    },
}

Results = dict[str, torch.Tensor]


def main() -> None:
    """Write the references of the package named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=["mace", "nequip"])
    package = parser.parse_args().package
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # TorchScript's deprecations, raised inside the other packages
    try:
        if package == "mace":
            write_reference("mace", "mace-torch", MACE_COMMON, MACE_MODELS, build_mace, evaluate_mace)
        else:
            from nequip.utils.global_state import set_global_state

            set_global_state()
            write_reference("nequip", "nequip", NEQUIP_COMMON, NEQUIP_MODELS, build_nequip, evaluate_nequip)
    except ModuleNotFoundError as error:
        sys.exit(
            f"Error: '{error.name}' is not installed here; see the head of {Path(__file__).name} for what to install."
        )


def structures() -> list[Atoms]:
    """A distorted molecule, a molecule with an atom out of reach, a skewed cell smaller than the cutoff, and a slab."""
    random = np.random.default_rng(7)
    ethanol = molecule("CH3CH2OH")
    ethanol.positions += random.normal(0.0, 0.05, ethanol.positions.shape)
    water = molecule("H2O") + Atoms("C", positions=[[0.0, 0.0, 40.0]])
    cell = [[3.4, 0.0, 0.0], [1.1, 3.6, 0.0], [-0.7, 0.9, 4.1]]
    fractional = [[0.0, 0.0, 0.0], [0.35, 0.1, 0.2], [0.1, 0.45, 0.7], [0.6, 0.6, 0.35], [0.75, 0.2, 0.8]]
    crystal = Atoms("COHHC", scaled_positions=fractional, cell=cell, pbc=True)
    slab_cell = [[3.0, 0.0, 0.0], [0.8, 3.2, 0.0], [0.0, 0.0, 14.0]]
    slab_positions = [[0.1, 0.0, 7.0], [1.4, 1.5, 7.3], [0.2, 0.3, 8.2], [1.9, 1.2, 6.1]]
    slab = Atoms("CCOH", positions=slab_positions, cell=slab_cell, pbc=[True, True, False])
    return [ethanol, water, crystal, slab]


def write_reference(
    name: str,
    distribution: str,
    common: dict[str, Any],
    models: dict[str, dict[str, Any]],
    build: Callable[[dict[str, Any]], torch.nn.Module],
    evaluate: Callable[[torch.nn.Module, dict[str, Any], Atoms], Results],
) -> None:
    """Build each model, evaluate it on each structure, and write the file beside its place, then rename it."""
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    for number, atoms in enumerate(structures()):
        tensors[f"structures/{number}/numbers"] = torch.tensor(atoms.numbers, dtype=torch.int64)
        tensors[f"structures/{number}/positions"] = torch.tensor(atoms.positions)
        tensors[f"structures/{number}/cell"] = torch.tensor(atoms.cell.array)
        tensors[f"structures/{number}/pbc"] = torch.tensor(atoms.pbc)
    metadata = {}
    for seed, (label, own) in enumerate(models.items()):
        hyper_parameters = common | own
        metadata[label] = hyper_parameters
        torch.manual_seed(seed)
        model = build(hyper_parameters)
        for parameter in model.parameters():
            # Wide weights, so that no product of the network is small beside the others.
            parameter.data = (WEIGHT_SPREAD * torch.randn(parameter.shape)).to(torch.float32).to(torch.float64)
        for key, tensor in stored_weights(model).items():
            tensors[f"{label}/weights/{key}"] = tensor
        for number, atoms in enumerate(structures()):
            for key, tensor in evaluate(model, hyper_parameters, atoms).items():
                tensors[f"{label}/results/{number}/{key}"] = tensor.detach().contiguous()
        print(f"{distribution}, model '{label}': {sum(p.numel() for p in model.parameters())} weights")
    versions = {package: version(package) for package in (distribution, "e3nn", "torch")}
    # One key, since safetensors writes several in any order.
    content = save(tensors, {"reference": json.dumps({"models": metadata, "versions": versions})})
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.safetensors"
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    print(f"{path}: {len(content) / 1000:.0f} kB")


def stored_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict without the constants that e3nn derives, and with coupling tensors on monomials."""
    parameters = dict(model.named_parameters())
    weights: dict[str, torch.Tensor] = {}
    for key, tensor in model.state_dict().items():
        derived = "_w3j_" in key or key.endswith("output_mask") or not tensor.is_floating_point()
        if derived or not tensor.numel():
            continue
        if ".U_matrix_" in key:
            order = int(key.rsplit("_", 1)[1])
            weights |= {f"{key}/{part}": each for part, each in on_monomials(tensor, order).items()}
        else:
            weights[key] = tensor.to(torch.float32) if key in parameters else tensor
    return weights


def on_monomials(coupling: torch.Tensor, order: int) -> dict[str, torch.Tensor]:
    """A coupling tensor of `order` equal inputs as shape, flat indices and values, entries for one monomial summed.

    mace-torch gives `[components, inputs, ..., inputs, products]`, the first axis left out for a single component.
    Only the sum over the orders of the inputs matters, and it is put where the inputs ascend.
    """
    dense = coupling if coupling.dim() == order + 2 else coupling[None]
    positions = np.indices(dense.shape).reshape(order + 2, -1)
    positions[1:-1].sort(axis=0)
    flat = torch.tensor(np.ravel_multi_index(tuple(positions), dense.shape))
    summed = torch.zeros(dense.numel()).index_add(0, flat, dense.reshape(-1))
    indices = torch.nonzero(summed.abs() > ROUNDING)[:, 0]
    return {"shape": torch.tensor(dense.shape), "indices": indices.to(torch.int32), "values": summed[indices]}


def build_mace(hyper_parameters: dict[str, Any]) -> torch.nn.Module:
    """A `ScaleShiftMACE` with random weights."""
    from e3nn import o3
    from mace import modules

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    own = hyper_parameters | {
        "hidden_irreps": o3.Irreps(hyper_parameters["hidden_irreps"]),
        "MLP_irreps": o3.Irreps(hyper_parameters["MLP_irreps"]),
        "atomic_energies": np.array(hyper_parameters["atomic_energies"]),
    }
    model: torch.nn.Module = modules.ScaleShiftMACE(
        **own,
        interaction_cls=block,
        interaction_cls_first=block,
        num_elements=len(own["atomic_numbers"]),
        gate=torch.nn.functional.silu,
    )
    return model


def evaluate_mace(model: torch.nn.Module, hyper_parameters: dict[str, Any], atoms: Atoms) -> Results:
    """Energies, forces and stress by mace-torch's own neighbour list and model."""
    from e3nn import o3
    from mace import data
    from mace.tools import AtomicNumberTable, torch_geometric

    table = AtomicNumberTable(hyper_parameters["atomic_numbers"])
    graph = data.AtomicData.from_config(data.config_from_atoms(atoms), table, hyper_parameters["r_max"])
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1)))
    periodic = bool(atoms.pbc.all())
    output = model(batch.to_dict(), compute_stress=periodic)
    results = {"energy": output["energy"], "energies": output["node_energy"], "forces": output["forces"]}
    if hyper_parameters["num_interactions"] > 1:
        results["features"] = output["node_feats"][:, : o3.Irreps(hyper_parameters["hidden_irreps"]).dim]
    return results | ({"stress": output["stress"][0]} if periodic else {})


def build_nequip(hyper_parameters: dict[str, Any]) -> torch.nn.Module:
    """A NequIP model with random weights, its irreps given layer by layer."""
    from nequip.model import FullNequIPGNNModel

    seed = int(torch.randint(1000, ()))
    model: torch.nn.Module = FullNequIPGNNModel(seed=seed, model_dtype="float64", **hyper_parameters)
    return model.eval()


def evaluate_nequip(model: torch.nn.Module, hyper_parameters: dict[str, Any], atoms: Atoms) -> Results:
    """Energies, forces and stress by NequIP's own neighbour list and model."""
    from nequip.data import AtomicDataDict, compute_neighborlist_, from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper

    data = compute_neighborlist_(from_ase(atoms), r_max=hyper_parameters["r_max"])
    output = model(ChemicalSpeciesToAtomTypeMapper(hyper_parameters["type_names"])(data))
    results = {
        "energy": output[AtomicDataDict.TOTAL_ENERGY_KEY][0],
        "energies": output[AtomicDataDict.PER_ATOM_ENERGY_KEY][:, 0],
        "forces": output[AtomicDataDict.FORCE_KEY],
    }
    return results | ({"stress": output[AtomicDataDict.STRESS_KEY][0]} if atoms.pbc.all() else {})


if __name__ == "__main__":
    main()
