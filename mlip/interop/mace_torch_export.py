"""Writes models of ours as mace-torch's, in an environment where that package is installed too."""

import copy
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from ase.data import atomic_numbers
from e3nn.o3 import Irreps
from torch import Tensor, nn

from mlip.errors import ConfigError
from mlip.interop.e3nn_maps import (
    StateDict,
    activation_ratio,
    by_output,
    flattened,
    flattened_of_elements,
    outputs,
    path_widths,
    scaled,
)
from mlip.interop.mace_torch_description import INTERACTIONS
from mlip.interop.mace_torch_weights import BOHR, product_transform
from mlip.models import MaceConfig, Potential
from mlip.models.mace import Mace, MaceLayer
from mlip.nn import MLP, Convolution, SymmetricContraction
from mlip.nn.layout import canonical_irreps, natural_irreps
from mlip.nn.radial import BesselBasis


def export_mace_torch(model: Potential, path: str | os.PathLike[str]) -> None:
    """Write a `mace` model as a `ScaleShiftMACE` object, saved as mace-torch saves its models.

    Args:
        model: The potential.
        path: File to write, by custom `NAME.model`.

    Raises:
        ConfigError: mace-torch has no such model, or is not installed.
    """
    _refuse(model)
    modules = _mace_modules()
    with _float64_by_default():
        theirs = _build(modules, model)
        theirs.load_state_dict({**theirs.state_dict(), **weights_for_mace_torch(model, theirs.state_dict())})
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(theirs.to(model.dtype), partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _refuse(model: Potential) -> None:
    """Raise ConfigError for what mace-torch cannot express."""
    config = model.config
    if not isinstance(config, MaceConfig):
        raise ConfigError(f"the model has the architecture {config.architecture}; mace-torch has only mace.")
    hidden = canonical_irreps(config.hidden_irreps)
    unequal = [str(irrep) for channels, irrep in hidden if channels != hidden.count("0e")]
    products = (config.tensor_product.convolution, config.tensor_product.contraction)
    found = None
    if unequal or "0o" in hidden:
        found = f"the hidden irreps {hidden}, where mace-torch needs as many channels of each and no 0o"
    elif any(product.coupling != "clebsch_gordan" or product.weights != "per_path" for product in products):
        found = "other tensor products than Clebsch-Gordan's with weights per path"
    elif len(set(model.scale.tolist())) > 1:
        found = "a scale of its own for each element"
    elif config.long_range is not None:
        found = "charges ('long_range')"
    elif config.zbl and config.zbl_form != "mace":
        found = "a nuclear repulsion of another form (zbl_form: universal)"
    if found:
        raise ConfigError(f"the model cannot be written for mace-torch, which it does not fit: it has {found}.")


def _mace_modules() -> ModuleType:
    try:
        from mace import modules
    except ImportError as error:
        raise ConfigError(
            f"mace-torch cannot be imported here ({error}); install it beside this package with "
            "'pip install --no-deps mace-torch' and what it names as missing."
        ) from None
    return cast(ModuleType, modules)


@contextmanager
def _float64_by_default() -> Iterator[None]:
    """mace-torch makes its constants in torch's default type."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(previous)


def _build(modules: ModuleType, model: Potential) -> nn.Module:
    """A `ScaleShiftMACE` of the model's hyper-parameters, its weights random."""
    config = cast(MaceConfig, model.config)
    names = {ours: theirs for theirs, ours in INTERACTIONS.items()}
    blocks = [modules.interaction_classes[names[interaction]] for interaction in config.interactions]
    built: nn.Module = modules.ScaleShiftMACE(
        r_max=config.cutoff,
        num_bessel=config.radial_functions,
        num_polynomial_cutoff=config.cutoff_power,
        max_ell=config.l_max,
        interaction_cls_first=blocks[0],
        interaction_cls=blocks[-1],
        num_interactions=config.layers,
        num_elements=len(model.elements),
        hidden_irreps=canonical_irreps(config.hidden_irreps),
        MLP_irreps=Irreps([(config.readout_hidden, "0e")]),
        atomic_energies=[model.reference_energies.values.tolist()],
        avg_num_neighbors=config.average_neighbours,
        atomic_numbers=[int(atomic_numbers[symbol]) for symbol in model.elements],
        correlation=config.correlations,
        gate=nn.functional.silu,
        pair_repulsion=config.zbl,
        radial_MLP=list(config.radial_hidden),
        radial_type=config.radial_basis,
        distance_transform=(config.distance_transform or "None").capitalize(),
        atomic_inter_scale=float(model.scale[0]),
        atomic_inter_shift=0.0,
    )
    return built


def weights_for_mace_torch(model: Potential, theirs: Mapping[str, Tensor]) -> StateDict:
    """Their state dict, as far as it is not derived, for our model.

    Args:
        model: Ours, of Clebsch-Gordan products with weights per path.
        theirs: The state dict of a model of the same hyper-parameters, which has the coupling tensors.
    """
    model = copy.deepcopy(model).to(torch.float64)
    network = cast(Mace, model.network)
    state = {
        "node_embedding.linear.weight": (network.embedding * math.sqrt(len(model.elements))).reshape(-1),
        # A shift of each element's own lies in the energy of its free atom.
        "atomic_energies_fn.atomic_energies": (model.reference_energies.values + model.shift).view(1, -1),
        "scale_shift.scale": model.scale[0],
        "scale_shift.shift": torch.zeros_like(model.shift[0]),
    }
    if isinstance(network.radial.basis, BesselBasis):
        wave_numbers = network.radial.basis.frequencies * (math.pi / model.cutoff)
        state["radial_embedding.bessel_fn.bessel_weights"] = wave_numbers
    layers, readouts = cast(Sequence[MaceLayer], network.layers), cast(Sequence[MLP], network.readouts)
    for number, (layer, readout) in enumerate(zip(layers, readouts, strict=True)):
        state |= _layer(layer, number, theirs)
        first, *second = readout.weights
        names = ["linear_1", "linear_2"] if second else ["linear"]
        for name, weight in zip(names, [first, *(each / activation_ratio("silu") for each in second)], strict=True):
            state[f"readouts.{number}.{name}.weight"] = weight.reshape(-1)
    numbers = torch.tensor([int(atomic_numbers[symbol]) for symbol in model.elements])
    if model.zbl is not None:
        radii = theirs["pair_repulsion_fn.covalent_radii"].to(torch.float64)
        state |= {
            "pair_repulsion_fn.c": model.zbl.amplitudes,
            "pair_repulsion_fn.a_prefactor": model.zbl.length / BOHR,
            "pair_repulsion_fn.a_exp": model.zbl.exponent,
            "pair_repulsion_fn.covalent_radii": radii.index_copy(0, numbers, model.zbl.radii),
        }
    if network.transform is not None:
        prefix = "radial_embedding.distance_transform"
        constants = dict(network.transform.named_buffers())
        radii = theirs[f"{prefix}.covalent_radii"].to(torch.float64)
        state[f"{prefix}.covalent_radii"] = radii.index_copy(0, numbers, constants.pop("radii"))
        state |= {f"{prefix}.{name}": each for name, each in constants.items()}
    return {name: tensor.detach() for name, tensor in state.items()}


def _layer(layer: MaceLayer, number: int, theirs: Mapping[str, Tensor]) -> StateDict:
    """Weights of an interaction block and the product block after it."""
    interaction, product = f"interactions.{number}", f"products.{number}"
    convolution = cast(Convolution, layer.convolution)
    irreps_in, density = layer.up.irreps_in, layer.down.irreps_out
    paths = by_output(path_widths(irreps_in, natural_irreps(1, density.lmax), density))
    signs = torch.cat([torch.full((width,), (-1.0) ** path.degree) for path, width in paths.items()])
    first, *others = convolution.radial_network.weights
    radial = [first, *(each / activation_ratio("silu") for each in others)]
    radial[-1] = radial[-1] * signs
    skip, ins, outs = layer.residual, irreps_in, layer.out.irreps_out
    if layer.mixing is not None:
        skip, ins, outs = layer.mixing, density, density
    assert skip is not None
    state = {
        **{f"{interaction}.conv_tp_weights.layer{i}.weight": weight for i, weight in enumerate(radial)},
        f"{interaction}.linear_up.weight": flattened(_maps(layer.up), irreps_in, irreps_in),
        f"{interaction}.linear.weight": flattened(_maps(layer.down), outputs(paths), density),
        f"{interaction}.skip_tp.weight": flattened_of_elements(_maps(skip), ins, outs),
        f"{product}.linear.weight": flattened(_maps(layer.out), layer.out.irreps_in, layer.out.irreps_out),
    }
    if layer.density is not None:
        state[f"{interaction}.density_fn.layer0.weight"] = layer.density.linear.weights[0]
    contraction = cast(SymmetricContraction, layer.contraction)
    return state | _contraction(contraction, f"{product}.symmetric_contractions.contractions", theirs)


def _contraction(contraction: SymmetricContraction, prefix: str, theirs: Mapping[str, Tensor]) -> StateDict:
    """Their weights of the symmetric products, those of least norm that give ours."""
    state = {}
    highest = max(term.monomials.shape[1] for term in contraction.table.terms)
    for term in contraction.table.terms:
        order, count = term.monomials.shape[1], term.coefficients.shape[0]
        block = f"{prefix}.{term.output}"
        transform = product_transform(theirs[f"{block}.U_matrix_{order}"].to(torch.float64), term)
        own = contraction.weights[:, term.weight_offset : term.weight_offset + count]
        name = "weights_max" if order == highest else f"weights.{highest - 1 - order}"
        state[f"{block}.{name}"] = torch.einsum("pq,eqc->epc", torch.linalg.pinv(transform), own)
    return state


def _maps(linear: nn.Module) -> dict[str, Tensor]:
    """Maps of one of our linear maps by irrep."""
    weights = cast(Mapping[str, Tensor], linear.weights)
    return {irrep: scaled(weight) for irrep, weight in weights.items()}
