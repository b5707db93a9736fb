"""The definition of a weighted product, path by path in float64, which every contender is held against."""

import torch
from torch import Tensor

from mlip.benchmarks.problems import Operands, Problem
from mlip.tensor_products.spec import ProductSpec


def reference_product(problem: Problem, operands: Operands) -> Tensor:
    """The exact result, float64 [batch, irreps_out.dim] in e3nn's layout."""
    x, y, weight, _ = operands.to(torch.float64)
    spec = problem.spec
    first = _components(x, [irrep.dim for irrep in spec.irreps_in1], problem.channels)
    second = _components(y, [irrep.dim for irrep in spec.irreps_in2], problem.channels_in2)
    of_path = None
    if weight is not None:
        of_path = path_weights(spec, weight.unflatten(1, (spec.weight_rows, problem.channels)))
    results = [x.new_zeros(len(x), problem.channels, irrep.dim) for irrep in spec.irreps_out]
    for number, path in enumerate(spec.paths):
        coefficients = torch.tensor(spec.coefficients(path), device=x.device)
        expanded = second[path.in2].expand(-1, problem.channels, -1)
        part = torch.einsum("bci,bcj,ijk->bck", first[path.in1], expanded, coefficients)
        results[path.out] += part if of_path is None else part * of_path[:, number, :, None]
    return torch.cat([each.flatten(1) for each in results], 1)


def path_weights(spec: ProductSpec, weight: Tensor) -> Tensor:
    """Weights of any structure, [batch, spec.weight_rows, channels], as one for each path, [batch, paths, channels]."""
    if spec.weights == "per_path":
        return weight
    if spec.weights == "shared":
        return weight.expand(-1, len(spec.paths), -1)
    in1, in2, out = weight.split([len(irreps) for irreps in spec.operands], 1)
    rows = ([path[operand] for path in spec.paths] for operand in range(3))
    of_in1, of_in2, of_out = (part[:, chosen] for part, chosen in zip((in1, in2, out), rows, strict=True))
    return of_in1 * of_in2 * of_out


def _components(features: Tensor, dims: list[int], channels: int) -> list[Tensor]:
    """Entries [batch, channels, dim] of features in e3nn's layout."""
    parts = features.split([channels * dim for dim in dims], 1)
    return [part.unflatten(1, (channels, dim)) for part, dim in zip(parts, dims, strict=True)]
