"""Models written for mace-torch: against the checkpoints that they came from, and by that package where it is there."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from mace_torch_cases import CRYSTAL, MOLECULE, checkpoint_of, head_argument, results_of, structure_parts

from mlip.errors import ConfigError
from mlip.interop import import_checkpoint, read_checkpoint
from mlip.interop.mace_torch_export import export_mace_torch, weights_for_mace_torch
from mlip.models import build_model

# Those of one head and with a readout after every layer, which is what is written.
LABELS = ["vectors", "unscaled", "mixing", "agnesi"]
DERIVED = (
    "U_matrix",
    "output_mask",
    "r_max",
    "bessel_fn.prefactor",
    "gaussian_weights",
    "zeroed",
    "cutoff_fn.p",
    "repulsion_fn.p",
    "num_interactions",
    "atomic_numbers",
    "conv_tp.",
)


@pytest.mark.parametrize("label", LABELS)
def test_weights_are_those_of_the_checkpoint(checkpoints: Path, label: str) -> None:
    """Both ways through the mapping give a checkpoint's own weights, except those of redundant products."""
    path = checkpoint_of(checkpoints, label)
    theirs = {name: each for name, each in read_checkpoint(path).state_dict().items() if each.numel()}
    written = weights_for_mace_torch(import_checkpoint(path), theirs)
    wanted = {name for name in theirs if not any(part in name for part in DERIVED)}
    scaled = {"scale_shift.scale", "scale_shift.shift"}
    assert set(written) | scaled == wanted | scaled
    for name in wanted - scaled:
        if "contractions" not in name and "atomic_energies" not in name:
            assert written[name].shape == theirs[name].shape
            torch.testing.assert_close(written[name], theirs[name], rtol=1e-13, atol=1e-13)
    shift = theirs.get("scale_shift.shift", torch.tensor(0.0))
    energies = theirs["atomic_energies_fn.atomic_energies"] + shift
    torch.testing.assert_close(written["atomic_energies_fn.atomic_energies"][0], energies)


@pytest.mark.parametrize("label", LABELS)
def test_products_are_those_of_the_checkpoint(checkpoints: Path, label: str) -> None:
    """Summed over orders of their inputs, weighted couplings are the same, though their weights need not be."""
    path = checkpoint_of(checkpoints, label)
    theirs = read_checkpoint(path).state_dict()
    written = weights_for_mace_torch(import_checkpoint(path), theirs)
    for name in (name for name in theirs if name.endswith("U_matrix_2")):
        block = name.removesuffix("U_matrix_2")
        key = f"{block}weights.0" if f"{block}U_matrix_3" in theirs else f"{block}weights_max"
        couplings = [torch.einsum("...p,epc->ec...", theirs[name], each[key]) for each in (theirs, written)]
        symmetric = [each + each.transpose(-1, -2) for each in couplings]
        torch.testing.assert_close(symmetric[1], symmetric[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("label", "head"),
    [
        ("vectors", "Default"),
        ("unscaled", "Default"),
        ("mixing", "Default"),
        ("repulsion", "dear"),
        ("agnesi", "Default"),
    ],
)
@pytest.mark.usefixtures("e3nn_in_double")
def test_mace_torch_computes_the_same_with_what_is_written(
    checkpoints: Path, tmp_path: Path, label: str, head: str
) -> None:
    pytest.importorskip("mace")
    from mace.calculators import MACECalculator

    model = import_checkpoint(checkpoint_of(checkpoints, label), head=head_argument(label, head))
    export_mace_torch(model, tmp_path / "written.model")
    written = torch.load(tmp_path / "written.model", weights_only=False)
    calculator = MACECalculator(models=[written], device="cpu", default_dtype="float64")
    for number in (MOLECULE, CRYSTAL):
        parts = structure_parts(number)
        atoms = Atoms(parts["numbers"], parts["positions"], cell=parts["cell"], pbc=parts["pbc"])
        calculator.calculate(atoms)
        expected = results_of(label, head, number)
        energy = torch.as_tensor(calculator.results["energy"]).squeeze()
        torch.testing.assert_close(energy, expected["energy"].squeeze(), rtol=1e-11, atol=1e-9)
        forces = torch.as_tensor(calculator.results["forces"])
        torch.testing.assert_close(forces, expected["forces"], rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "nequip"}, "architecture nequip"),
        ({"hidden_irreps": "4x0e+2x1o"}, r"hidden irreps 4x0e\+2x1o"),
        ({"hidden_irreps": "4x0e+4x0o"}, "and no 0o"),
        ({"tensor_product": {"backend": "spherical_grid"}}, "other tensor products"),
        ({"scale": {"H": 1.0, "O": 2.0}}, "a scale of its own for each element"),
        ({"zbl": True}, "zbl_form: universal"),
    ],
)
def test_models_that_mace_torch_cannot_express_are_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    config = {"architecture": "mace", "elements": ["H", "O"], "hidden_irreps": "4x0e", "l_max": 1}
    with pytest.raises(ConfigError, match=reason):
        export_mace_torch(build_model(config | changes), tmp_path / "model.model")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mace", None)
    model = build_model({"architecture": "mace", "elements": ["H"], "hidden_irreps": "4x0e", "l_max": 1})
    with pytest.raises(ConfigError, match="mace-torch cannot be imported here"):
        export_mace_torch(model, tmp_path / "model.model")
    assert not list(tmp_path.iterdir())
