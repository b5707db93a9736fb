"""Weights of e3nn's modules as the linear maps that they act by, and those maps as our weights.

Every linear map of ours and theirs divides by the root of its number of inputs, though not always of the same inputs.
Weights are therefore carried over through the maps as they act, `y = x @ map` with `map = weight / sqrt(inputs)`;
`stored` turns a map into our weight, `flattened` into e3nn's. What else differs is a factor, a sign or an order: the
tables of `docs/architectures.md`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from e3nn.math import normalize2mom
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from mlip.errors import CheckpointError
from mlip.interop.records import Record
from mlip.nn.activation import ACTIVATIONS, activation_scale
from mlip.so3 import coupling_paths

StateDict = dict[str, Tensor]


class Path(NamedTuple):
    """A path of a convolution: an irrep of the features times the harmonic of degree l2 gives an output irrep."""

    irrep_in: Irrep
    degree: int
    irrep_out: Irrep


def read_irreps(value: Any) -> Irreps:
    """Irreps of a checkpoint, a text or the record of an `e3nn.o3.Irreps`, in their order.

    Raises:
        CheckpointError: it is neither.
    """
    try:
        if isinstance(value, str):
            return Irreps(value)
        if not (isinstance(value, Record) and value.class_name == "Irreps"):
            raise TypeError
        # All three classes are tuples, which are pickled with their items as one argument.
        pairs = [each.args[0] for each in value.args[0]]
        return Irreps([(int(channels), irrep.args[0]) for channels, irrep in pairs])
    except (TypeError, ValueError, IndexError, AttributeError):
        raise CheckpointError(
            "the checkpoint holds irreps that cannot be read; save it with a current version of its package."
        ) from None


def path_widths(irreps_in: Irreps, harmonics: Irreps, targets: Irreps) -> dict[Path, int]:
    """Channels of each path, by input irrep, then degree of the harmonic, then output irrep: NequIP's order."""
    return {
        Path(path.irrep_in1, path.irrep_in2.l, path.irrep_out): irreps_in[path.index_in1].mul
        for path in coupling_paths(irreps_in, harmonics, targets)
    }


def by_output(paths: Mapping[Path, int]) -> dict[Path, int]:
    """The same paths, those of one output irrep together: our order and mace-torch's."""
    return dict(sorted(paths.items(), key=lambda item: item[0].irrep_out))


def outputs(paths: Mapping[Path, int]) -> Irreps:
    """Irreps of a convolution's result, the paths of one irrep joined."""
    return Irreps([(width, path.irrep_out) for path, width in by_output(paths).items()]).simplify()


def convolution_weights(
    radial: Sequence[Tensor], down: Mapping[str, Tensor], paths: Mapping[Path, int], ours: Mapping[Path, int]
) -> StateDict:
    """Weights of a layer's radial network and of the linear map after its convolution.

    Args:
        radial: Maps of the radial network, the columns of the last in the order of `paths`.
        down: Maps of the linear map by output irrep, their rows in the order of `paths`.
        paths: Channels of each path, in their order.
        ours: The same in ours, as many channels or more.
    """
    last = rearranged(radial[-1], paths, ours)
    state = {f"convolution.radial_network.weights.{i}": stored(each) for i, each in enumerate([*radial[:-1], last])}
    for irrep, each in down.items():
        theirs_here = {path: width for path, width in paths.items() if str(path.irrep_out) == irrep}
        ours_here = {path: width for path, width in ours.items() if str(path.irrep_out) == irrep}
        state[f"down.weights.{irrep}"] = stored(rearranged(each.T, theirs_here, ours_here).T)
    return state


def rearranged(values: Tensor, source: Mapping[Any, int], target: Mapping[Any, int]) -> Tensor:
    """Blocks of columns [..., columns] in the order of `target`, zeros added where a block is wider there."""
    blocks = dict(zip(source, values.split(list(source.values()), -1), strict=True))
    return torch.cat([nn.functional.pad(blocks[key], (0, width - source[key])) for key, width in target.items()], -1)


def linear_maps(weight: Tensor, irreps_in: Irreps, irreps_out: Irreps) -> dict[str, Tensor]:
    """Maps [channels in, channels out] of an `e3nn.o3.Linear` by irrep, from its flat weight."""
    pairs = _pairs(irreps_in, irreps_out)
    blocks = weight.split([ins * outs for ins, outs, _ in pairs])
    return {str(irrep): scaled(block.view(ins, outs)) for (ins, outs, irrep), block in zip(pairs, blocks, strict=True)}


def element_maps(weight: Tensor, irreps_in: Irreps, attributes: Tensor, irreps_out: Irreps) -> dict[str, Tensor]:
    """Maps [elements, channels in, channels out] of an `e3nn.o3.FullyConnectedTensorProduct` with element attributes.

    Args:
        weight: Its flat weight.
        irreps_in: Irreps of its first input.
        attributes: Its second input for each element, [elements, attributes].
        irreps_out: Irreps of its output.
    """
    size = attributes.shape[1]
    pairs = _pairs(irreps_in, irreps_out)
    blocks = weight.split([ins * size * outs for ins, outs, _ in pairs])
    return {
        str(irrep): torch.einsum("iao,ea->eio", block.view(ins, size, outs), attributes) / math.sqrt(ins * size)
        for (ins, outs, irrep), block in zip(pairs, blocks, strict=True)
    }


def flattened(maps: Mapping[str, Tensor], irreps_in: Irreps, irreps_out: Irreps) -> Tensor:
    """The flat weight of an `e3nn.o3.Linear` with these maps by irrep: what `linear_maps` reads."""
    return torch.cat([stored(maps[str(irrep)]).reshape(-1) for _, _, irrep in _pairs(irreps_in, irreps_out)])


def flattened_of_elements(maps: Mapping[str, Tensor], irreps_in: Irreps, irreps_out: Irreps) -> Tensor:
    """The flat weight of an `e3nn.o3.FullyConnectedTensorProduct` with one-hot elements, for maps of each element."""
    blocks = [maps[str(irrep)] for _, _, irrep in _pairs(irreps_in, irreps_out)]
    return torch.cat([stored(each).transpose(0, 1).reshape(-1) * math.sqrt(each.shape[0]) for each in blocks])


def scaled(weight: Tensor) -> Tensor:
    """The map of a weight [..., inputs, outputs] that is divided by the root of its inputs."""
    return weight / math.sqrt(weight.shape[-2])


def stored(each: Tensor) -> Tensor:
    """Our weight for a map [..., inputs, outputs]."""
    return each * math.sqrt(each.shape[-2])


@cache
def e3nn_activation_scale(name: str) -> float:
    """What e3nn multiplies an activation by, which it estimates from a million draws of a fixed seed."""
    return float(normalize2mom(ACTIVATIONS[name]).cst)


def activation_ratio(name: str) -> float:
    """e3nn's factor of an activation over ours."""
    return e3nn_activation_scale(name) / activation_scale(name)


def _pairs(irreps_in: Irreps, irreps_out: Irreps) -> list[tuple[int, int, Irrep]]:
    """Channels in, channels out and irrep of each block of a linear map, in e3nn's order."""
    return [(ins, outs, irrep) for ins, irrep in irreps_in for outs, other in irreps_out if irrep == other]
