"""mace-torch checkpoints imported, against what it computes with them, by `scripts/make_checkpoint_references.py`."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mace_torch_cases import CRYSTAL, MOLECULE, assert_computes, checkpoint_of, graph_of, head_argument

from mlip.errors import CheckpointError
from mlip.interop import import_checkpoint, read_checkpoint
from mlip.interop.mace_torch import read_mace_torch
from mlip.interop.records import Global, Record
from mlip.models import load, save
from mlip.nn.layout import natural_irreps

CASES = [
    ("vectors", "Default"),
    ("unscaled", "Default"),
    ("mixing", "Default"),
    ("repulsion", "cheap"),
    ("repulsion", "dear"),
    ("single", "Default"),
    ("single precision", "cheap"),
    ("single precision", "dear"),
    ("agnesi", "Default"),
    ("soft", "Default"),
    ("options", "Default"),
]


@pytest.mark.parametrize("number", [MOLECULE, CRYSTAL])
@pytest.mark.parametrize(("label", "head"), CASES)
def test_imported_models_compute_what_mace_torch_computes(
    checkpoints: Path, label: str, head: str, number: int
) -> None:
    model = import_checkpoint(checkpoint_of(checkpoints, label), head=head_argument(label, head))
    assert model.dtype == torch.float64
    assert_computes(model, label, head, number)


@pytest.mark.parametrize(("label", "head"), [("repulsion", "dear"), ("mixing", "Default"), ("agnesi", "Default")])
@pytest.mark.parametrize("number", [MOLECULE, CRYSTAL])
def test_some_elements_alone_compute_the_same(checkpoints: Path, label: str, head: str, number: int) -> None:
    """What the model knows of other elements does not matter, in whatever order they are named."""
    present = ["O", "H", "C"] if number == CRYSTAL else ["O", "N", "C", "H"]
    model = import_checkpoint(checkpoint_of(checkpoints, label), present, head_argument(label, head))
    assert model.elements == sorted(present, key="HCNO".index)
    assert_computes(model, label, head, number)


def test_imported_models_are_stored_exactly(checkpoints: Path, tmp_path: Path) -> None:
    """The constants of mace-torch's repulsion are in the file, as rounded as they were in the checkpoint."""
    save(import_checkpoint(checkpoint_of(checkpoints, "single")), tmp_path / "model.mlip")
    assert_computes(load(tmp_path / "model.mlip"), "single", "Default", MOLECULE)
    # float32 keeps them to its precision, and float64 again exactly.
    model = load(tmp_path / "model.mlip", dtype="float32")
    assert model.zbl is not None
    assert model.zbl.exponent.dtype == torch.float32


def test_the_repulsion_is_felt(checkpoints: Path) -> None:
    """The references above would not tell a wrong repulsion if none of their atoms were near enough."""
    model = import_checkpoint(checkpoint_of(checkpoints, "repulsion"), head="dear")
    graph = graph_of(MOLECULE, model.cutoff)
    energy = float(model(graph, forces=False).energy)
    model.zbl = None
    assert energy - float(model(graph, forces=False).energy) > 1.0


def test_heads_have_to_be_named(checkpoints: Path) -> None:
    path = checkpoint_of(checkpoints, "repulsion")
    with pytest.raises(CheckpointError, match="has the heads cheap, dear; choose one, for example --head cheap"):
        import_checkpoint(path)
    with pytest.raises(CheckpointError, match="has no head 'free'; it has cheap, dear"):
        import_checkpoint(path, head="free")
    assert import_checkpoint(path, head="dear").provenance["head"] == "dear"
    with pytest.raises(CheckpointError, match="has no head 'dear'; it has Default"):
        import_checkpoint(checkpoint_of(checkpoints, "vectors"), head="dear")


def test_unknown_elements_raise(checkpoints: Path) -> None:
    with pytest.raises(CheckpointError, match="does not know the element 'Cu'; it knows H, C, N, O"):
        import_checkpoint(checkpoint_of(checkpoints, "vectors"), ["H", "Cu"])


def changed(checkpoints: Path, change: Callable[[Record], None], label: str = "vectors") -> Record:
    """The records of a checkpoint with something of them changed."""
    record = read_checkpoint(checkpoint_of(checkpoints, label))
    change(record)
    return record


def rename(record: Record, name: str) -> None:
    record.kind = Global(record.kind.module, name)


REFUSALS: dict[str, tuple[Callable[[Record], None], str]] = {
    "model": (lambda m: rename(m, "AtomicDipolesMACE"), "is a AtomicDipolesMACE"),
    "interaction": (
        lambda m: rename(m["interactions"]["1"], "RealAgnosticAttResidualInteractionBlock"),
        "interactions of the class RealAgnosticAttResidualInteractionBlock",
    ),
    "basis": (lambda m: rename(m["radial_embedding"]["bessel_fn"], "ChebychevBasis"), "radial basis ChebychevBasis"),
    "transform": (
        lambda m: m["radial_embedding"].state.update(distance_transform=Record(Global("mace", "OtherTransform"))),
        "distance transform OtherTransform",
    ),
    "cutoff": (lambda m: m.state.update(apply_cutoff=False), "apply_cutoff false"),
    "embedding": (lambda m: m.state.update(joint_embedding=Record(Global("mace", "X"))), "joint_embedding"),
    "readout": (
        lambda m: rename(m["readouts"]["1"], "NonLinearBiasReadoutBlock"),
        "the readouts LinearReadoutBlock, NonLinearBiasReadoutBlock",
    ),
    "activation": (
        lambda m: m["readouts"]["1"]["non_linearity"]["acts"]["0"].state.update(f=Global("torch", "tanh")),
        r"the activation torch\.tanh",
    ),
    "edges": (lambda m: m["interactions"]["1"].state.update(edge_irreps="2x0e"), "edge_irreps 2x0e for the features"),
    "products": (
        lambda m: m["interactions"]["1"].state.update(target_irreps="4x0e+4x0o+4x1o+4x2e"),
        r"takes products of 4x0e\+4x0o",
    ),
    "cuEquivariance": (
        lambda m: m["products"]["0"].state.update(cueq_config=Record(Global("mace", "X"), state={"enabled": True})),
        "is converted to cuEquivariance",
    ),
    "harmonics": (
        lambda m: m["interactions"]["0"].state.update(edge_attrs_irreps="1x0e+1x1e+1x2e"),
        "has the harmonics 1x0e",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_models_without_a_counterpart_are_refused(checkpoints: Path, name: str) -> None:
    change, found = REFUSALS[name]
    with pytest.raises(CheckpointError, match=f"the mace-torch model .*{found}.*, which has no counterpart here"):
        read_mace_torch(changed(checkpoints, change))


def test_interactions_that_differ_after_the_first_are_refused(checkpoints: Path) -> None:
    def change(model: Record) -> None:
        rename(model["interactions"]["2"], "RealAgnosticResidualInteractionBlock")

    with pytest.raises(CheckpointError, match=r"differ after the first layer \(mixing, residual\)"):
        read_mace_torch(changed(checkpoints, change, "mixing"))


def test_weights_that_do_not_fit_are_refused(checkpoints: Path) -> None:
    def shorten(model: Record) -> None:
        linear = model["interactions"]["0"]["linear_up"]
        linear["_parameters"]["weight"] = torch.zeros(7)

    def drop(model: Record) -> None:
        del model["products"]["0"]["linear"]["_parameters"]["weight"]

    def bend(model: Record) -> None:
        buffers = model["products"]["0"]["symmetric_contractions"]["contractions"]["1"]["_buffers"]
        buffers["U_matrix_2"] = buffers["U_matrix_2"] + 0.1

    for change in (shorten, drop):
        with pytest.raises(CheckpointError, match="weights of the mace-torch model do not fit its hyper-parameters"):
            read_mace_torch(changed(checkpoints, change))
    with pytest.raises(CheckpointError, match="symmetric products of order 2 in the checkpoint are no equivariant"):
        read_mace_torch(changed(checkpoints, bend))


SIZES: dict[str, Callable[[Record], None]] = {
    "channels": lambda m: m["interactions"]["0"].state.update(node_feats_irreps="1000000000x0e", edge_irreps=None),
    "hidden": lambda m: m["products"]["0"]["linear"].state.update(irreps_out="4x0e+999999999x1o"),
    "elements": lambda m: m["_buffers"].update(atomic_numbers=torch.arange(1, 100)),
    "degrees": lambda m: [
        each.state.update(edge_attrs_irreps=str(natural_irreps(1, 11)), target_irreps=str(natural_irreps(4, 11)))
        for each in m["interactions"].children()
    ],
    "orders": lambda m: m["products"]["1"]["symmetric_contractions"]["contractions"]["0"].state.update(correlation=4),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_the_file_does_not_hold_are_refused_before_they_are_built(checkpoints: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="do not have the sizes that its hyper-parameters tell"):
        read_mace_torch(changed(checkpoints, SIZES[name]))


def test_no_elements_are_refused(checkpoints: Path) -> None:
    with pytest.raises(CheckpointError, match="no elements are to be kept"):
        import_checkpoint(checkpoint_of(checkpoints, "vectors"), [])


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": torch.nn.Linear(2, 3).state_dict(), "epoch": 7}, path)
    with pytest.raises(CheckpointError, match="holds neither a model of mace-torch nor a SevenNet checkpoint"):
        import_checkpoint(path)
