"""What a mace-torch model is, read from the records of its checkpoint; whatever has no counterpart here is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ase.data import chemical_symbols
from e3nn.o3 import Irreps
from torch import Tensor

from mlip.errors import CheckpointError
from mlip.interop.e3nn_maps import e3nn_activation_scale, read_irreps
from mlip.interop.records import Global, Record
from mlip.models.config import Interaction
from mlip.nn.layout import canonical_irreps, natural_irreps

MODEL_CLASSES = ("ScaleShiftMACE", "MACE")
INTERACTIONS: dict[str, Interaction] = {
    "RealAgnosticResidualInteractionBlock": "residual",
    "RealAgnosticInteractionBlock": "mixing",
    "RealAgnosticDensityResidualInteractionBlock": "density_residual",
    "RealAgnosticDensityInteractionBlock": "density_mixing",
}
DISTANCE_TRANSFORMS = {"AgnesiTransform": "agnesi", "SoftTransform": "soft"}
_RADIAL_BASES = {"BesselBasis": "bessel", "GaussianBasis": "gaussian"}
# Largest difference of trained or rounded constants from those that ours computes anew.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class MaceTorchLayer:
    """An interaction block of mace-torch with the product block after it.

    Attributes:
        irreps_in: Irreps of the features that come in, in their order.
        irreps_out: Irreps of those that go out, in their order.
        interaction: Our name for the kind of block.
        average_neighbours: What its sums over neighbours are divided by.
        correlation: Highest order of its products.
    """

    irreps_in: Irreps
    irreps_out: Irreps
    interaction: Interaction
    average_neighbours: float
    correlation: int


@dataclass(frozen=True)
class MaceTorchModel:
    """Hyper-parameters of a mace-torch model beside its state dict.

    Attributes:
        weights: Its state dict, in float64.
        atomic_numbers: In its order.
        heads: Names of its heads.
        cutoff: Å.
        cutoff_power: p of its polynomial cutoff.
        l_max: Highest degree of the harmonics.
        radial_basis: Our name for its radial functions.
        radial_functions: Their number.
        distance_transform: Our name for what they see in place of distances, or None for these.
        radial_hidden: Units in the hidden layers of its radial networks.
        readout_hidden: Units in the hidden layer of its last readout, for one head.
        layers: Its layers.
        activation_scale: What e3nn, as installed where the model was made, multiplies a silu by.
    """

    weights: Mapping[str, Tensor]
    atomic_numbers: list[int]
    heads: list[str]
    cutoff: float
    cutoff_power: int
    l_max: int
    radial_basis: str
    radial_functions: int
    distance_transform: str | None
    radial_hidden: list[int]
    readout_hidden: int
    layers: list[MaceTorchLayer]
    activation_scale: float

    @property
    def elements(self) -> list[str]:
        """Chemical symbols, in its order."""
        return [chemical_symbols[number] for number in self.atomic_numbers]


def is_mace_torch(checkpoint: Any) -> bool:
    """Whether a checkpoint holds a model object of mace-torch, of whatever class."""
    return isinstance(checkpoint, Record) and checkpoint.kind.module.split(".")[0] == "mace"


def describe(model: Record) -> MaceTorchModel:
    """Read a model's hyper-parameters and weights.

    Raises:
        CheckpointError: it has what ours have not, or its parts do not fit together.
    """
    if model.class_name not in MODEL_CLASSES:
        raise _unsupported(f"is a {model.class_name}", " or ".join(MODEL_CLASSES))
    _refuse_options(model)
    radial = model["radial_embedding"]
    interactions, products = model["interactions"].children(), model["products"].children()
    if not interactions or len(interactions) != len(products):
        raise CheckpointError(
            f"the mace-torch model has {len(interactions)} interactions for {len(products)} products; "
            "the file is damaged: copy it again."
        )
    harmonics = read_irreps(interactions[0]["edge_attrs_irreps"])
    if canonical_irreps(str(harmonics)) != canonical_irreps(str(natural_irreps(1, harmonics.lmax))):
        raise _unsupported(f"has the harmonics {harmonics}", "1x0e+1x1o+1x2e+… of natural parity")
    layers = [_layer(*blocks, harmonics.lmax) for blocks in zip(interactions, products, strict=True)]
    _check_sizes(model, layers, harmonics.lmax)
    network = interactions[0]["conv_tp_weights"]
    return MaceTorchModel(
        weights={name: _exact(tensor) for name, tensor in model.state_dict().items()},
        atomic_numbers=_numbers(model["atomic_numbers"]),
        heads=[str(head) for head in model.get("heads") or ["Default"]],
        cutoff=float(model["r_max"]),
        cutoff_power=int(radial["cutoff_fn"]["p"]),
        l_max=harmonics.lmax,
        radial_basis=_radial_basis(radial["bessel_fn"], float(model["r_max"])),
        radial_functions=int(radial["out_dim"]),
        distance_transform=_distance_transform(radial.get("distance_transform")),
        radial_hidden=[int(width) for width in network["hs"][1:-1]],
        readout_hidden=_readout_units(model["readouts"].children(), len(layers)),
        layers=layers,
        activation_scale=_activation_scale(network),
    )


def _unsupported(found: str, supported: str) -> CheckpointError:
    return CheckpointError(f"the mace-torch model {found}, which has no counterpart here; only {supported} is read.")


def _refuse_options(model: Record) -> None:
    """Refuse options that change what the model computes."""
    radial = model["radial_embedding"]
    if not model.get("apply_cutoff", True) or not radial.get("apply_cutoff", True):
        raise _unsupported("has apply_cutoff false", "a cutoff of the radial functions")
    if "joint_embedding" in model:
        raise _unsupported("embeds further properties of a structure (joint_embedding)", "an embedding of elements")


def _layer(interaction: Record, product: Record, l_max: int) -> MaceTorchLayer:
    if interaction.class_name not in INTERACTIONS:
        raise _unsupported(f"has interactions of the class {interaction.class_name}", ", ".join(INTERACTIONS))
    irreps_in = read_irreps(interaction["node_feats_irreps"])
    irreps_out = read_irreps(product["linear"]["irreps_out"])
    edge_irreps = interaction.get("edge_irreps")
    if edge_irreps is not None and read_irreps(edge_irreps) != irreps_in:
        raise _unsupported(f"has edge_irreps {read_irreps(edge_irreps)} for the features {irreps_in}", "equal ones")
    target = read_irreps(interaction["target_irreps"])
    natural = natural_irreps(target.count("0e"), l_max)
    if canonical_irreps(str(target)) != canonical_irreps(str(natural)):
        raise _unsupported(f"takes products of {target}", f"natural parity, {natural},")
    for block in (interaction, product):
        config = block.get("cueq_config")
        if isinstance(config, Record) and config.get("enabled"):
            raise _unsupported("is converted to cuEquivariance", "the form of e3nn (mace_cueq_to_e3nn)")
    if interaction["conv_tp_weights"].class_name != "FullyConnectedNet":
        raise _unsupported(f"has radial networks of the class {interaction['conv_tp_weights'].class_name}", "e3nn's")
    return MaceTorchLayer(
        irreps_in=irreps_in,
        irreps_out=irreps_out,
        interaction=INTERACTIONS[interaction.class_name],
        average_neighbours=float(interaction["avg_num_neighbors"]),
        correlation=int(product["symmetric_contractions"]["contractions"]["0"]["correlation"]),
    )


def _check_sizes(model: Record, layers: list[MaceTorchLayer], l_max: int) -> None:
    """Hold what decides how much memory and time a model takes against tensors that are in the file."""
    weights = model.state_dict()
    channels = layers[0].irreps_in.count("0e")
    embedding = weights.get("node_embedding.linear.weight", torch.empty(0))
    fits = embedding.numel() == channels * len(_numbers(model["atomic_numbers"])) > 0
    for number, layer in enumerate(layers):
        contractions = f"products.{number}.symmetric_contractions.contractions"
        couplings = weights.get(f"{contractions}.0.U_matrix_{layer.correlation}", torch.empty(0))
        inputs = couplings.shape[-1 - layer.correlation : -1]
        fits &= inputs == ((l_max + 1) ** 2,) * layer.correlation
        fits &= all(width == channels for irreps in (layer.irreps_in, layer.irreps_out) for width, _ in irreps)
    if not fits:
        raise CheckpointError(
            "the tensors of the mace-torch model do not have the sizes that its hyper-parameters tell; "
            "the file is damaged: copy it again."
        )


def _radial_basis(basis: Record, cutoff: float) -> str:
    if basis.class_name not in _RADIAL_BASES:
        raise _unsupported(f"has the radial basis {basis.class_name}", " or ".join(_RADIAL_BASES))
    if basis.class_name == "GaussianBasis":
        centres = _exact(basis["gaussian_weights"])
        expected = torch.linspace(0.0, cutoff, len(centres), dtype=torch.float64)
        if not torch.allclose(centres, expected, rtol=0.0, atol=_ROUNDING * cutoff):
            raise _unsupported("has trained centres of its Gaussians", "equal steps up to the cutoff")
    return _RADIAL_BASES[basis.class_name]


def _distance_transform(transform: Record | None) -> str | None:
    if transform is None:
        return None
    if transform.class_name not in DISTANCE_TRANSFORMS:
        raise _unsupported(f"has the distance transform {transform.class_name}", " or ".join(DISTANCE_TRANSFORMS))
    return DISTANCE_TRANSFORMS[transform.class_name]


def _readout_units(readouts: list[Record], layers: int) -> int:
    """Hidden units of the last readout, of all heads together."""
    kinds = [readout.class_name for readout in readouts]
    linear, last = ["LinearReadoutBlock"], "NonLinearReadoutBlock"
    if kinds not in ([*linear * (layers - 1), last] if layers > 1 else linear, [last] if layers > 1 else linear):
        raise _unsupported(f"has the readouts {', '.join(kinds)}", f"{linear[0]}, and {last} after the last layer,")
    if layers == 1:
        return 1
    units = read_irreps(readouts[-1]["linear_1"]["irreps_out"])
    if units.num_irreps != units.count("0e"):
        raise _unsupported(f"has the hidden irreps {units} in its last readout", "0e")
    _require_silu(readouts[-1]["non_linearity"]["acts"]["0"])
    return int(units.dim)


def _activation_scale(network: Record) -> float:
    hidden = [layer for layer in network.children() if isinstance(layer.get("act"), Record)]
    for layer in hidden:
        _require_silu(layer["act"])
    return float(hidden[0]["act"]["cst"]) if hidden else e3nn_activation_scale("silu")


def _require_silu(activation: Record) -> None:
    function = activation.get("f")
    kind = function.kind if isinstance(function, Record) else function
    if not isinstance(kind, Global) or kind.name.lower() != "silu":
        raise _unsupported(f"has the activation {kind}", "silu")


def _numbers(values: Any) -> list[int]:
    return [int(number) for number in torch.as_tensor(values).tolist()]


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float64) if tensor.is_floating_point() else tensor
