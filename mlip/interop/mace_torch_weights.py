"""Configuration and weights of ours for a mace-torch model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from ase.data import chemical_symbols
from e3nn.o3 import Irreps
from torch import Tensor

from mlip.errors import CheckpointError
from mlip.interop.e3nn_maps import (
    StateDict,
    by_output,
    convolution_weights,
    element_maps,
    linear_maps,
    outputs,
    path_widths,
    scaled,
    stored,
)
from mlip.interop.mace_torch_description import MaceTorchModel
from mlip.models import Potential
from mlip.models.mace import MaceLayer
from mlip.nn import SymmetricContraction
from mlip.nn.activation import activation_scale
from mlip.nn.layout import canonical_irreps, natural_irreps
from mlip_kernels.symmetric_contraction import ContractionTable, ContractionTerm

# A product of theirs that our basis lacked would leave a rest of order one; float32 files hold products to 1e-7.
_LARGEST_REST = 1e-5
# Å, as mace-torch has it in the screening length of its repulsion.
BOHR = 0.529


class Choice(NamedTuple):
    """What of a model is read.

    Attributes:
        elements: Places of the wanted elements in the model's list, by atomic number.
        head: Place of the head.
    """

    elements: list[int]
    head: int


def config_of(model: MaceTorchModel, choice: Choice) -> dict[str, Any]:
    """Our configuration."""
    elements = [model.elements[place] for place in choice.elements]
    first, *others = [layer.interaction for layer in model.layers]
    if len(set(others)) > 1:
        raise CheckpointError(
            f"the interactions of the mace-torch model differ after the first layer ({', '.join(others)}), "
            "which has no counterpart here; only the first may be another."
        )
    correlations = [layer.correlation for layer in model.layers]
    return {
        "architecture": "mace",
        "elements": elements,
        "hidden_irreps": str(canonical_irreps(str(model.layers[0].irreps_out))),
        "l_max": model.l_max,
        "correlation": correlations if len(set(correlations)) > 1 else correlations[0],
        "interaction": others[0] if others else first,
        "first_interaction": first if others and others[0] != first else None,
        "layers": len(model.layers),
        "cutoff": model.cutoff,
        "radial_basis": model.radial_basis,
        "radial_functions": model.radial_functions,
        "distance_transform": model.distance_transform,
        "cutoff_power": model.cutoff_power,
        "radial_hidden": model.radial_hidden,
        "average_neighbours": model.layers[0].average_neighbours,
        "readout_hidden": model.readout_hidden // len(model.heads) if len(model.layers) > 1 else 16,
        "zbl": "pair_repulsion_fn.c" in model.weights,
        "zbl_form": "mace" if "pair_repulsion_fn.c" in model.weights else "universal",
        "reference_energies": dict(zip(elements, _reference_energies(model, choice).tolist(), strict=True)),
        "scale": float(_of_head(model.weights.get("scale_shift.scale", torch.ones(1)), choice.head)),
        "shift": float(_of_head(model.weights.get("scale_shift.shift", torch.zeros(1)), choice.head)),
    }


def state_dict_of(model: MaceTorchModel, choice: Choice, ours: Potential) -> StateDict:
    """Our state dict.

    Args:
        model: Theirs.
        choice: Elements and head.
        ours: Built from `config_of(model, choice)`.

    Raises:
        CheckpointError: their symmetric products are not among ours, or a constant differs.
    """
    peer = model.weights
    state = dict(ours.state_dict())
    count = len(model.atomic_numbers)
    state["network.embedding"] = peer["node_embedding.linear.weight"].view(count, -1)[choice.elements] / math.sqrt(
        count
    )
    if model.radial_basis == "bessel":
        wave_numbers = peer["radial_embedding.bessel_fn.bessel_weights"]
        state["network.radial.basis.frequencies"] = wave_numbers * (model.cutoff / math.pi)
    own_layers = cast(Sequence[MaceLayer], ours.network.layers)
    for number, layer in enumerate(model.layers):
        weights = _layer(model, number, choice, own_layers[number])
        state |= {f"network.layers.{number}.{name}": weight for name, weight in weights.items()}
        maps = _readout(model, number, layer.irreps_out, choice.head)
        state |= {f"network.readouts.{number}.weights.{i}": stored(each) for i, each in enumerate(maps)}
    state["reference_energies.values"] = _reference_energies(model, choice)
    numbers = torch.tensor([model.atomic_numbers[place] for place in choice.elements])
    if "pair_repulsion_fn.c" in peer:
        state |= _repulsion(model, numbers)
    if model.distance_transform is not None:
        state |= _transform(model, numbers)
    return state


def _layer(model: MaceTorchModel, number: int, choice: Choice, ours: MaceLayer) -> StateDict:
    """Weights of one of our layers."""
    peer, layer = model.weights, model.layers[number]
    interaction, product = f"interactions.{number}", f"products.{number}"
    density = ours.down.irreps_out
    harmonics = natural_irreps(1, model.l_max)
    paths = by_output(path_widths(layer.irreps_in, harmonics, density))
    radial = _radial_maps(model, interaction, len(ours.convolution.radial_network.weights))
    # Their edges point from sender to receiver and ours back, so that harmonics of odd degree change sign.
    radial[-1] = radial[-1] * torch.cat([torch.full((width,), (-1.0) ** path.degree) for path, width in paths.items()])
    down = linear_maps(peer[f"{interaction}.linear.weight"], outputs(paths), density)
    if ours.density is None:
        down = {irrep: each * (ours.average_neighbours / layer.average_neighbours) for irrep, each in down.items()}
    one_hot = torch.eye(len(model.atomic_numbers), dtype=torch.float64)[choice.elements]
    products = Irreps([(density.count("0e"), irrep) for _, irrep in layer.irreps_out])
    maps = {
        "up": linear_maps(peer[f"{interaction}.linear_up.weight"], layer.irreps_in, layer.irreps_in),
        "out": linear_maps(peer[f"{product}.linear.weight"], products, layer.irreps_out),
    }
    skip = peer[f"{interaction}.skip_tp.weight"]
    if ours.residual is not None:
        maps["residual"] = element_maps(skip, layer.irreps_in, one_hot, layer.irreps_out)
    else:
        maps["mixing"] = element_maps(skip, density, one_hot, density)
    own_paths = by_output(path_widths(ours.up.irreps_out, harmonics, density))
    state = convolution_weights(radial, down, paths, own_paths)
    own = {name for name, _ in ours.named_parameters()}
    for name, group in maps.items():
        weights = {f"{name}.weights.{irrep}": stored(each) for irrep, each in group.items()}
        # Theirs may keep irreps after the last layer that no readout takes.
        state |= {key: weight for key, weight in weights.items() if key in own}
    if ours.density is not None:
        linear = scaled(peer[f"{interaction}.density_fn.layer0.weight"]) * _basis_ratio(model)
        state["density.linear.weights.0"] = stored(linear)
    contractions = f"{product}.symmetric_contractions.contractions"
    table = cast(SymmetricContraction, ours.contraction).table
    products_weights = contraction_weights(peer, contractions, layer.irreps_out, ours.out.irreps_out, table)
    return state | {"contraction.weights": products_weights.expand(one_hot.shape[1], -1, -1)[choice.elements]}


def _radial_maps(model: MaceTorchModel, interaction: str, count: int) -> list[Tensor]:
    """Maps of a radial network on our radial functions, with our factor of the activation."""
    maps = [scaled(model.weights[f"{interaction}.conv_tp_weights.layer{i}.weight"]) for i in range(count)]
    ratio = model.activation_scale / activation_scale("silu")
    return [maps[0] * _basis_ratio(model), *(each * ratio for each in maps[1:])]


def _basis_ratio(model: MaceTorchModel) -> float:
    """Their radial functions over ours, which differ by the rounding of a factor where the file is in float32."""
    prefactor = model.weights.get("radial_embedding.bessel_fn.prefactor")
    return 1.0 if prefactor is None else float(prefactor) / math.sqrt(2.0 / model.cutoff)


def contraction_weights(
    peer: Mapping[str, Tensor], prefix: str, theirs: Irreps, ours: Irreps, table: ContractionTable
) -> Tensor:
    """Weights of our symmetric contraction, [elements, products, channels].

    Theirs holds, for output irrep i and order n, `sum over p of U[k, i1 ... in, p] weight[element, p, channel]`, with
    the orders from the highest down. Their products are `U = basis @ transform` on monomials, ours are the basis.

    Args:
        peer: Their state dict.
        prefix: Of their contractions in it.
        theirs: Irreps of their output, in their order.
        ours: Irreps of our output.
        table: Terms of our contraction.

    Raises:
        CheckpointError: theirs are not combinations of ours.
    """
    their_number = {irrep: number for number, (_, irrep) in enumerate(theirs)}
    irreps = [irrep for _, irrep in ours]
    highest = max(term.monomials.shape[1] for term in table.terms)
    rows = []
    for term in table.terms:
        order = term.monomials.shape[1]
        block = f"{prefix}.{their_number[irreps[term.output]]}"
        transform = product_transform(peer[f"{block}.U_matrix_{order}"], term)
        name = "weights_max" if order == highest else f"weights.{highest - 1 - order}"
        rows.append(torch.einsum("qp,epc->eqc", transform, peer[f"{block}.{name}"]))
    return torch.cat(rows, 1)


def product_transform(coupling: Tensor, term: ContractionTerm) -> Tensor:
    """T in `U = basis @ T` on monomials, [our products, their products].

    Args:
        coupling: Their U of one order and output irrep, [components, inputs, ..., inputs, products].
        term: Ours of the same order and irrep.

    Raises:
        CheckpointError: theirs are not combinations of ours.
    """
    order = term.monomials.shape[1]
    theirs = on_monomials(coupling, order).flatten(0, 1)
    inputs = coupling.shape[-2]
    ours = torch.zeros(*term.coefficients.shape[:2], inputs**order, dtype=torch.float64)
    flat = np.ravel_multi_index(tuple(term.monomials.T), (inputs,) * order)
    ours[:, :, torch.tensor(flat)] = torch.tensor(term.coefficients)
    basis = ours.flatten(1).T
    transform = torch.linalg.lstsq(basis, theirs).solution
    rest = float((basis @ transform - theirs).abs().max())
    if not rest <= _LARGEST_REST:
        raise CheckpointError(
            f"symmetric products of order {order} in the checkpoint are no equivariant maps (rest {rest:.1e}); "
            "it is damaged: copy it again."
        )
    return transform


def on_monomials(coupling: Tensor, order: int) -> Tensor:
    """A coupling tensor of equal inputs with its entries for one monomial summed where the inputs ascend.

    Args:
        coupling: [components, inputs, ..., inputs, products], the first axis left out for a single component.
        order: Number of inputs.

    Returns:
        [components, inputs ** order, products]
    """
    dense = coupling if coupling.dim() == order + 2 else coupling[None]
    shape = dense.shape[1:-1]
    monomials = np.sort(np.indices(shape).reshape(order, -1), axis=0)
    flat = torch.tensor(np.ravel_multi_index(tuple(monomials), shape))
    dense = dense.flatten(1, -2)
    return torch.zeros_like(dense).index_add(1, flat, dense)


def _readout(model: MaceTorchModel, number: int, irreps_out: Irreps, head: int) -> list[Tensor]:
    """Maps of the readout after a layer, of one head alone."""
    heads = Irreps([(len(model.heads), "0e")])
    last = number == len(model.layers) - 1
    only_last = len(model.layers) > 1 and "readouts.0.linear_1.weight" in model.weights
    if last and len(model.layers) > 1:
        readout = f"readouts.{0 if only_last else number}"
        units = slice(head * model.readout_hidden // heads.dim, (head + 1) * model.readout_hidden // heads.dim)
        hidden = Irreps([(model.readout_hidden, "0e")])
        first = linear_maps(model.weights[f"{readout}.linear_1.weight"], irreps_out, hidden)["0e"]
        second = linear_maps(model.weights[f"{readout}.linear_2.weight"], hidden, heads)["0e"]
        ratio = model.activation_scale / activation_scale("silu")
        return [first[:, units], second[units, head, None] * ratio]
    if only_last:
        return [torch.zeros(irreps_out.count("0e"), 1, dtype=torch.float64)]
    return [linear_maps(model.weights[f"readouts.{number}.linear.weight"], irreps_out, heads)["0e"][:, head, None]]


def _reference_energies(model: MaceTorchModel, choice: Choice) -> Tensor:
    energies = torch.atleast_2d(model.weights["atomic_energies_fn.atomic_energies"])
    return energies[choice.head if len(energies) > 1 else 0][choice.elements]


def _of_head(values: Tensor, head: int) -> Tensor:
    values = torch.atleast_1d(values)
    return values[head if len(values) > 1 else 0]


def _repulsion(model: MaceTorchModel, numbers: Tensor) -> StateDict:
    """Constants of the nuclear repulsion, for elements of these atomic numbers."""
    peer = {name.removeprefix("pair_repulsion_fn."): each for name, each in model.weights.items()}
    if int(peer["p"]) != model.cutoff_power:
        raise CheckpointError(
            f"the nuclear repulsion of the mace-torch model ends with the power {int(peer['p'])} and its radial "
            f"functions with {model.cutoff_power}, which has no counterpart here; only equal ones are read."
        )
    return {
        "zbl.amplitudes": peer["c"],
        "zbl.length": peer["a_prefactor"] * BOHR,
        "zbl.exponent": peer["a_exp"],
        "zbl.radii": peer["covalent_radii"][numbers],
    }


def _transform(model: MaceTorchModel, numbers: Tensor) -> StateDict:
    """Constants of the distance transform, for elements of these atomic numbers."""
    prefix = "radial_embedding.distance_transform."
    own = {name.removeprefix(prefix): each for name, each in model.weights.items() if name.startswith(prefix)}
    own["radii"] = own.pop("covalent_radii")[numbers]
    return {f"network.transform.{name}": each for name, each in own.items()}


def choose(model: MaceTorchModel, elements: list[str] | None, head: str | None) -> Choice:
    """Find the wanted elements, all by default, and the wanted head, which may be left out where there is one.

    Raises:
        CheckpointError: the model lacks one of them, or has several heads and none is named.
    """
    symbols = model.elements
    if elements is not None and not elements:
        raise CheckpointError("no elements are to be kept; name some of the checkpoint's, or leave them out for all.")
    for symbol in elements or ():
        if symbol not in symbols:
            raise CheckpointError(
                f"the checkpoint does not know the element '{symbol}'; it knows {', '.join(symbols)}."
            )
    wanted = sorted(set(elements or symbols), key=chemical_symbols.index)
    if head is None and len(model.heads) > 1:
        raise CheckpointError(
            f"the checkpoint has the heads {', '.join(model.heads)}; choose one, for example --head {model.heads[0]}."
        )
    if head is not None and head not in model.heads:
        raise CheckpointError(f"the checkpoint has no head '{head}'; it has {', '.join(model.heads)}.")
    return Choice([symbols.index(symbol) for symbol in wanted], 0 if head is None else model.heads.index(head))
