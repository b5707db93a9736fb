"""Write what the package sevenn computes, for tests of `mlip.interop.sevennet`, in an environment that has it:

    pip install sevenn==0.13.0
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python scripts/make_sevennet_reference.py      # its e3nn unpickles a file

Writes to `tests/interop/data`: `sevennet_NAME.pth`, small checkpoints with random weights in the forms that the package
wrote at different times; `sevennet_small.json` with what it computes when it reads them back; `sevennet_wheel.json`
with the same for the checkpoints that lie in its wheel. Energies, forces and stress are in float64, with the weights
rounded to float32 as the checkpoints hold them. The package computes in float32 alone; its modules are cast.
"""

import copy
import json
import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sevenn.util  # type: ignore[import-not-found]
import torch
from ase import Atoms
from ase.build import molecule
from e3nn.o3 import wigner_3j
from sevenn._const import model_defaults  # type: ignore[import-not-found]
from sevenn.calculator import SevenNetCalculator  # type: ignore[import-not-found]
from sevenn.checkpoint import SevenNetCheckpoint  # type: ignore[import-not-found]
from sevenn.model_build import build_E3_equivariant_model  # type: ignore[import-not-found]
from sevenn.scripts.backward_compatibility import patch_old_config  # type: ignore[import-not-found]

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "interop" / "data"
WHEEL = ["SevenNet_0__11Jul2024", "SevenNet_0__22May2024", "SevenNet_l3i5"]
# Carbon, hydrogen, oxygen: SevenNet numbers elements by their symbols.
COMMON: dict[str, Any] = {
    "_model_type": "E3_equivariant_model",
    "chemical_species": ["C", "H", "O"],
    "_number_of_species": 3,
    "_type_map": {6: 0, 1: 1, 8: 2},
    "cutoff": 4.0,
    "act_radial": "silu",
    "act_scalar": {"e": "silu", "o": "tanh"},
    "act_gate": {"e": "silu", "o": "tanh"},
    "interaction_type": "nequip",
    "readout_as_fcn": False,
    "use_bias_in_linear": False,
    "train_shift_scale": False,
    "device": torch.device("cpu"),
}
MODELS: dict[str, dict[str, Any]] = {
    # As SevenNet-0: names with spaces, the XPLOR cutoff, harmonics that grow with the length, e3nn's old signs.
    "early": {
        "version": "0.9.1",
        "is_parity": False,
        "irreps_manual": ["6x0e", "6x0e+4x1e+3x2e", "6x0e+4x1e+3x2e", "6x0e"],
        "lmax": 2,
        "num_convolution_layer": 3,
        "self_connection_type": "linear",
        "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 8},
        "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 3.0, "poly_cut_p_value": 6},
        "weight_nn_hidden_neurons": [8, 8],
        "optimize_by_reduce": True,
        "shift": np.array([-6.2, -1.5, -4.1], dtype=np.float32),
        "scale": np.array([0.8, 0.7, 0.9], dtype=np.float32),
    },
    # Both parities, a self-connection for each element, columns in the old order, harmonics of higher degree than
    # features. It takes six layers for a pseudoscalar to reach the energy.
    "parity": {
        "version": "0.10.3",
        "is_parity": True,
        "channel": 3,
        "lmax": 1,
        "lmax_edge": 2,
        "num_convolution_layer": 6,
        "self_connection_type": "nequip",
        "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 6},
        "cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 5},
        "weight_nn_hidden_neurons": [6],
        "shift": [-6.2, -1.5, -4.1],
        "scale": [0.8, 0.7, 0.9],
        "conv_denominator": 5.0,
        "train_denominator": True,
        "_normalize_sph": True,
    },
    # Kinds of self-connections mixed, irreps in another order and not all in every layer, one scale.
    "mixed": {
        "version": version("sevenn"),
        "is_parity": True,
        "irreps_manual": ["5x0e", "5x0e+2x2e+3x1o", *["5x0e+2x2e+2x1e+3x1o"] * 2, "5x0e"],
        "lmax": 2,
        "num_convolution_layer": 4,
        "self_connection_type": ["nequip", "linear", "nequip", "linear"],
        "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 5},
        "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 3.5},
        "weight_nn_hidden_neurons": [8],
        "shift": -3.0,
        "scale": 0.8,
        "conv_denominator": 5.0,
        "train_denominator": True,
        "_normalize_sph": True,
    },
}
OLD_MODULES = {
    "edge_embedding": "EdgeEmbedding",
    "reduce_input_to_hidden": "reducing nn input to hidden",
    "reduce_hidden_to_energy": "reducing nn hidden to energy",
    "rescale_atomic_energy": "rescale atomic energy",
}
# Wide weights, so that no product of the network is small beside the others.
WEIGHT_SPREAD = 1.3
# 3j tensors that e3nn has had with the other sign.
FLIPPED: list[tuple[int, ...]] = [(1, 1, 1), (2, 1, 2)]


def main() -> None:
    """Write the checkpoints and what the package computes with them."""
    warnings.filterwarnings("ignore")  # TorchScript's deprecations, and advice on accelerators
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    small = {}
    for seed, (name, config) in enumerate(MODELS.items()):
        path = FOLDER / f"sevennet_{name}.pth"
        torch.manual_seed(seed)
        torch.save(checkpoint(COMMON | config), path)
        small[name] = [evaluated(path, atoms) for atoms in small_structures()]
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    write("small", small)
    wheel = Path(sevenn.__file__).parent / "pretrained_potentials"
    names = {name: next((wheel / name).glob("*.pth")) for name in WHEEL}
    write("wheel", {n: [evaluated(path, atoms) for atoms in wheel_structures()] for n, path in names.items()})


def small_structures() -> list[Atoms]:
    """A distorted molecule, an isolated atom, and a skewed cell smaller than the cutoff."""
    acid = molecule("HCOOH")
    acid.positions += np.random.default_rng(7).normal(0.0, 0.05, acid.positions.shape)
    cell = [[3.4, 0.0, 0.0], [1.1, 3.6, 0.0], [-0.7, 0.9, 4.1]]
    fractional = [[0.0, 0.0, 0.0], [0.35, 0.1, 0.2], [0.1, 0.45, 0.7], [0.6, 0.6, 0.35], [0.75, 0.2, 0.8]]
    return [acid, Atoms("O", positions=[[0.0] * 3]), Atoms("COHHC", scaled_positions=fractional, cell=cell, pbc=True)]


def wheel_structures() -> list[Atoms]:
    """A rattled perovskite, a distorted molecule, and an isolated atom."""
    corners = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
    perovskite = Atoms("SrTiO3", scaled_positions=corners, cell=[3.905] * 3, pbc=True)
    perovskite.rattle(0.08, seed=3)
    return [perovskite, small_structures()[0], Atoms("Si", positions=[[0.0] * 3])]


def checkpoint(config: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint with random weights, as the version in the configuration would have written it."""
    complete = patch_old_config(copy.deepcopy(config))
    complete = {**model_defaults(complete), **complete}
    model = build_E3_equivariant_model(complete)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, _ in model.named_parameters():
        if name.endswith(".weight"):
            state[name] *= WEIGHT_SPREAD
    for number in range(config["num_convolution_layer"]):
        state[f"{number}_convolution.denominator"].fill_((2.0 if complete["_normalize_sph"] else 10.0) + 0.5 * number)
    waves = state["edge_embedding.basis_function.coeffs"]
    waves += 0.1 * torch.randn(waves.shape)
    minor = int(config["version"].split(".")[1])
    for number in range(config["num_convolution_layer"] if minor < 11 else 0):
        name = f"{number}_convolution"
        # With both parities sevenn turns only one of the paths of equal degrees back.
        take_back(state, name, model.get_submodule(name), [] if config["is_parity"] else FLIPPED)
    if minor < 10:
        state = {old_name(name): tensor for name, tensor in state.items()}
    return {
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.01}]},
        "scheduler_state_dict": {"last_epoch": 1},
        "config": config,
        "epoch": 1,
    }


def take_back(state: dict[str, torch.Tensor], name: str, convolution: Any, flipped: list[tuple[int, ...]]) -> None:
    """Bring a convolution into the form before version 0.11: other order of columns, other signs of some tensors."""
    kwargs = convolution.convolution_kwargs
    before = [tuple(each[:3]) for each in convolution._instructions_before_sort]
    last = f"{name}.weight_nn.layer{len(convolution.weight_nn.hs) - 2}.weight"
    widths = {each: kwargs["irreps_in1"][each[0]].mul for each in before}
    after = sorted(before, key=lambda each: each[2])
    columns = dict(zip(after, state[last].split([widths[each] for each in after], 1), strict=True))
    for each in before:
        spaces = ("irreps_in1", "irreps_in2", "irreps_out")
        degrees = tuple(kwargs[space][number].ir.l for space, number in zip(spaces, each, strict=True))
        if degrees in flipped:
            columns[each] = -columns[each]
    state[last] = torch.cat([columns[each] for each in before], 1)
    for degrees in flipped:
        key = f"{name}.convolution._compiled_main_left_right._w3j_{'_'.join(map(str, degrees))}"
        if key in state:
            state[key] = -state[key]


def old_name(name: str) -> str:
    """The name of a tensor before version 0.10."""
    module, _, parameter = name.partition(".")
    if module in OLD_MODULES:
        module = OLD_MODULES[module]
    elif "self_interaction_1" not in module and module[0].isdigit():
        module = module.replace("_", " ")
    return f"{module}.{parameter.replace('denominator', 'denumerator')}"


def evaluated(path: Path, atoms: Atoms) -> dict[str, Any]:
    """A structure with energies, forces and stress in eV and Å, in float64, as the package reads the checkpoint."""
    original = sevenn.util.dtype_correct
    try:
        calculator = SevenNetCalculator(double_model(path), file_type="model_instance", device="cpu")
        torch.set_default_dtype(torch.float64)
        sevenn.util.dtype_correct = lambda value: original(value, float_dtype=torch.float64)
        image = atoms.copy()
        image.calc = calculator
        results = {"energy": image.get_potential_energy(), "forces": image.get_forces().tolist()}
        results["energies"] = calculator.results["energies"].tolist()
        if atoms.pbc.all():
            results["stress"] = image.get_stress().tolist()
    finally:
        sevenn.util.dtype_correct = original
        torch.set_default_dtype(torch.float32)
    structure = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
    return {key: value.tolist() for key, value in structure.items()} | results


def double_model(path: Path) -> torch.nn.Module:
    """The package's model of a checkpoint in float64, e3nn's constants computed in float64 too."""
    read = SevenNetCheckpoint(str(path))
    single = read.build_model()
    torch.set_default_dtype(torch.float64)
    try:
        model: torch.nn.Module = build_E3_equivariant_model(read.config).double()
        model.load_state_dict(single.state_dict())
        for name, buffer in model.named_buffers():
            if "_w3j_" in name:
                tensor = wigner_3j(*map(int, name.split("_w3j_")[1].split("_")), dtype=torch.float64)
                buffer.copy_(tensor if torch.allclose(tensor, buffer, atol=1e-6) else -tensor)
    finally:
        torch.set_default_dtype(torch.float32)

    def to_double(_module: Any, _inputs: Any, data: Any) -> Any:
        # One-hot elements come in float32.
        for key in ("x", "node_attr"):
            data[key] = data[key].double()
        return data

    model.get_submodule("onehot_idx_to_onehot").register_forward_hook(to_double)
    return model


def write(name: str, models: dict[str, Any]) -> None:
    """Write results beside their place, then rename the file."""
    versions = {package: version(package) for package in ("sevenn", "e3nn", "torch")}
    path = FOLDER / f"sevennet_{name}.json"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"versions": versions, "models": models}) + "\n")
    os.replace(partial, path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
