"""Products of other packages, each in the layout it likes best, with our paths, coefficients, weights and outputs."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from e3nn import o3
from e3nn.o3 import Irreps
from torch import Tensor

from mlip.benchmarks.problems import Operands, Problem
from mlip.benchmarks.reference import path_weights
from mlip.errors import ConfigError
from mlip.so3 import wigner_3j

# The package that each needs.
PACKAGES = {
    "e3nn": "e3nn",
    "e3nn_full": "e3nn",
    "cuequivariance": "cuequivariance_torch",
    "openequivariance": "openequivariance",
}


class Baseline(NamedTuple):
    """See `mlip.benchmarks.contenders.Contender`; `differs` is a list of remarks."""

    call: Callable[..., Tensor]
    adopt: Callable[[Operands], Operands]
    restore: Callable[[Tensor], Tensor]
    differs: list[str]


def build(name: str, problem: Problem, dtype: torch.dtype, device: torch.device) -> Baseline:
    """Build another package's product for a problem.

    Raises:
        ConfigError: the package cannot compute it.
    """
    builders = {
        "e3nn": _e3nn,
        "e3nn_full": _e3nn_full,
        "cuequivariance": _cuequivariance,
        "openequivariance": _openequivariance,
    }
    with warnings.catch_warnings():
        # Of torch's own deprecations inside these packages.
        warnings.simplefilter("ignore")
        return builders[name](problem, dtype, device)


def _e3nn(problem: Problem, dtype: torch.dtype, device: torch.device) -> Baseline:
    """`e3nn.o3.TensorProduct` with the same instructions, without its normalisation."""
    weighted = problem.weights != "none"
    module = _in_dtype(
        dtype,
        lambda: o3.TensorProduct(
            *problem.irreps,
            _instructions(problem, weighted),
            irrep_normalization="none",
            path_normalization="none",
            shared_weights=not weighted,
            internal_weights=False,
        ),
    ).to(device)
    return Baseline(module, _with_path_weights(problem), _unchanged, _weight_remark(problem))


def _e3nn_full(problem: Problem, dtype: torch.dtype, device: torch.device) -> Baseline:
    """`e3nn.o3.FullTensorProduct`, whose paths to one output stay apart."""
    if problem.weights != "none" or problem.coupling != "clebsch_gordan":
        raise ConfigError(
            "e3nn's FullTensorProduct has no weights and one coupling: choose weights none and coupling clebsch_gordan."
        )
    if problem.channels > 1 and problem.mode == "elementwise":
        raise ConfigError(
            "e3nn's FullTensorProduct couples every channel of x to every channel of y: choose the mode channelwise."
        )
    x, y, z = problem.irreps
    module = _in_dtype(
        dtype,
        lambda: o3.FullTensorProduct(
            x, y, [irrep for _, irrep in z], irrep_normalization="none", path_normalization="none"
        ),
    ).to(device)

    outputs = [z.slices()[[irrep for _, irrep in z].index(irrep)] for _, irrep in module.irreps_out]

    def adopt(operands: Operands) -> Operands:
        return operands._replace(cotangent=torch.cat([operands.cotangent[:, columns] for columns in outputs], 1))

    def restore(result: Tensor) -> Tensor:
        summed = result.new_zeros(len(result), z.dim)
        for columns, part in zip(
            outputs, result.split([columns.stop - columns.start for columns in outputs], 1), strict=True
        ):
            summed[:, columns] += part
        return summed

    return Baseline(module, adopt, restore, ["paths to one output not summed"])


def _cuequivariance(problem: Problem, dtype: torch.dtype, device: torch.device) -> Baseline:
    """A segmented polynomial with our coefficients.

    Checked against the definition with cuEquivariance 0.13 on a CPU, where it has the method `naive` only. Its CUDA
    method `uniform_1d` has not been run by us: there was no GPU.
    """
    cue = importlib.import_module("cuequivariance")
    cuet = importlib.import_module("cuequivariance_torch")
    spec = problem.spec
    weighted = problem.weights != "none"
    subscripts = f"{'u,' if weighted else ''}iu,{'ju' if problem.mode == 'elementwise' else 'j'},ku+ijk"
    descriptor = cue.SegmentedTensorProduct.from_subscripts(subscripts)
    first = int(weighted)
    for operand, (irreps, width) in enumerate(
        zip(spec.operands, (problem.channels, problem.channels_in2, problem.channels), strict=True)
    ):
        wide = operand != 1 or problem.mode == "elementwise"
        for irrep in irreps:
            descriptor.add_segment(first + operand, (irrep.dim, width) if wide else (irrep.dim,))
    for number, path in enumerate(spec.paths):
        if weighted:
            descriptor.add_segment(0, (problem.channels,))
        segments = [*([number] if weighted else []), path.in1, path.in2, path.out]
        descriptor.add_path(*segments, c=spec.coefficients(path))
    polynomial = cue.SegmentedPolynomial.eval_last_operand(descriptor)
    method = "uniform_1d" if device.type == "cuda" else "naive"
    module = cuet.SegmentedPolynomial(polynomial, method=method, math_dtype=dtype).to(device)
    with_path_weights = _with_path_weights(problem)
    x_irreps, y_irreps, z_irreps = problem.irreps

    def call(x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        product: Tensor = module([x, y] if weight is None else [weight, x, y])[0]
        return product

    def adopt(operands: Operands) -> Operands:
        x, y, weight, cotangent = with_path_weights(operands)
        return Operands(
            _component_first(x, x_irreps), _component_first(y, y_irreps), weight, _component_first(cotangent, z_irreps)
        )

    remarks = ["components before channels in its operands", f"method {module.method}", *_weight_remark(problem)]
    return Baseline(call, adopt, lambda result: _channel_first(result, z_irreps), remarks)


def _openequivariance(problem: Problem, dtype: torch.dtype, device: torch.device) -> Baseline:
    """`openequivariance.TensorProduct`, which takes e3nn's instructions and runs on a GPU only.

    Written from its documentation and source, and never run by us: there was no GPU. A result that is not the
    reference's is refused before anything is timed.
    """
    if device.type != "cuda":
        raise ConfigError("OpenEquivariance runs on a GPU only: choose the device cuda.")
    if problem.mode != "channelwise":
        raise ConfigError("OpenEquivariance has no elementwise product: choose the mode channelwise.")
    if problem.weights == "none":
        raise ConfigError("OpenEquivariance has weighted paths only: choose weights per_path.")
    oeq = importlib.import_module("openequivariance")
    number = {torch.float32: np.float32, torch.float64: np.float64}[dtype]
    tensor_product_problem = oeq.TPProblem(
        *(str(irreps) for irreps in problem.irreps),
        _instructions(problem, True),
        irrep_normalization="none",
        path_normalization="none",
        shared_weights=False,
        internal_weights=False,
        irrep_dtype=number,
        weight_dtype=number,
    )
    module = oeq.TensorProduct(tensor_product_problem, torch_op=True)
    return Baseline(module, _with_path_weights(problem), _unchanged, _weight_remark(problem))


def _instructions(problem: Problem, weighted: bool) -> list[tuple[int, int, int, str, bool, float]]:
    """e3nn's instructions for our paths; it takes the square of a path's factor over the Wigner 3j tensor.

    Raises:
        ConfigError: a factor is negative.
    """
    instructions = []
    for path in problem.spec.paths:
        triple = (path.irrep_in1.l, path.irrep_in2.l, path.irrep_out.l)
        factor = float((problem.spec.coefficients(path) * wigner_3j(*triple)).sum())
        if factor < 0.0:
            raise ConfigError(
                f"the coupling '{problem.coupling}' has a negative factor over the Wigner 3j tensor {triple}, which "
                "e3nn's instructions cannot say: choose another coupling."
            )
        mode = "uuu" if problem.mode == "elementwise" else "uvu"
        instructions.append((path.in1, path.in2, path.out, mode, weighted, factor**2))
    return instructions


def _with_path_weights(problem: Problem) -> Callable[[Operands], Operands]:
    """Replaces weights of another structure by one for each path and channel, which makes the same product."""

    def adopt(operands: Operands) -> Operands:
        if operands.weight is None:
            return operands
        rows = operands.weight.unflatten(1, (problem.spec.weight_rows, problem.channels))
        return operands._replace(weight=path_weights(problem.spec, rows).flatten(1))

    return adopt


def _weight_remark(problem: Problem) -> list[str]:
    if problem.weights in ("none", "per_path"):
        return []
    here, ours = len(problem.spec.paths), problem.spec.weight_rows
    return [f"one weight per path, {here} instead of {ours} ({problem.weights})"]


def _unchanged(given: Any) -> Any:
    return given


def _in_dtype(dtype: torch.dtype, build_module: Callable[[], Any]) -> Any:
    """Build a module of e3nn, whose constants take the default dtype and are exact in no other."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return build_module()
    finally:
        torch.set_default_dtype(before)


def _component_first(features: Tensor, irreps: Irreps) -> Tensor:
    """From e3nn's [channel, component] to [component, channel] in every entry."""
    parts = zip(irreps, irreps.slices(), strict=True)
    return torch.cat(
        [features[:, columns].unflatten(1, (mul, irrep.dim)).mT.flatten(1) for (mul, irrep), columns in parts], 1
    )


def _channel_first(features: Tensor, irreps: Irreps) -> Tensor:
    """The inverse of `_component_first`."""
    parts = zip(irreps, irreps.slices(), strict=True)
    return torch.cat(
        [features[:, columns].unflatten(1, (irrep.dim, mul)).mT.flatten(1) for (mul, irrep), columns in parts], 1
    )
