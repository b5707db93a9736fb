"""Who is measured: our backends, and other packages' products of the same paths, weights and outputs."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mlip.benchmarks import baselines
from mlip.benchmarks.problems import Operands, Problem
from mlip.benchmarks.reference import reference_product
from mlip.errors import ConfigError
from mlip.tensor_products import TensorProduct, backends
from mlip.tensor_products.couplings import choose

# Largest relative error of a product that claims to be exact: rounding, with a margin for long sums.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
_CHECKED_ROWS = 4


@dataclass(frozen=True)
class Request:
    """A contender as the user names it, such as `e3nn` or `cp:rank=31`."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and options in one word."""
        return ":".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


@dataclass(frozen=True)
class Contender:
    """A product that is ready to run.

    Attributes:
        label: What tables call it.
        call: Computes the product from `adopt(operands).arguments`.
        adopt: Brings operands into the form that it takes; not timed.
        restore: Brings its result into e3nn's layout, paths to one output summed; not timed.
        exact: Whether it claims to compute the coupling to rounding.
        differs: In what it is not the same as the reference besides rounding; empty if in nothing.
        product: Ours, None for other packages'.
    """

    label: str
    call: Callable[..., Tensor]
    adopt: Callable[[Operands], Operands]
    restore: Callable[[Tensor], Tensor]
    exact: bool
    differs: str
    product: TensorProduct | None


def parse_requests(text: str, packages: Mapping[str, str] = baselines.PACKAGES) -> list[Request]:
    """Contenders from a list such as `clebsch_gordan,cp:rank=31,e3nn`; options follow the name after colons.

    Args:
        text: The list.
        packages: Products of other packages that may be named, with the package that each needs.

    Raises:
        ConfigError: one is unknown or not installed, or an option has no value.
    """
    requests = []
    for part in text.split(","):
        name, *options = part.strip().split(":")
        choose("backend", name, [*backends(), "auto", *packages])
        package = packages.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(f"the backend '{name}' needs the package {package}: install it, or leave it out.")
        values = {}
        for option in options:
            key, equals, value = option.partition("=")
            if not (key and equals and value):
                raise ConfigError(f"'{option}' in '{part.strip()}' is no option: write name:key=value.")
            values[key] = _value(value)
        requests.append(Request(name, values))
    return requests


def default_requests() -> list[Request]:
    """All our backends as they come, and the other packages that are installed."""
    installed = [name for name, package in baselines.PACKAGES.items() if importlib.util.find_spec(package)]
    return [Request(name) for name in [*backends(), *installed]]


def build_contender(request: Request, problem: Problem, dtype: torch.dtype, device: torch.device) -> Contender:
    """Build a contender for a problem.

    Raises:
        ConfigError: it cannot compute the problem.
    """
    if request.name in baselines.PACKAGES:
        if request.options:
            raise ConfigError(f"the backend '{request.name}' takes no options: leave out '{request.label}'.")
        baseline = baselines.build(request.name, problem, dtype, device)
        differs = [problem.restriction, *baseline.differs]
        return Contender(
            request.label,
            baseline.call,
            baseline.adopt,
            baseline.restore,
            True,
            "; ".join(each for each in differs if each),
            None,
        )
    reserved = {"coupling", "weights", "mode"} & set(request.options)
    if reserved:
        raise ConfigError(
            f"'{reserved.pop()}' in '{request.label}' is the same for all contenders: give it as an option."
        )
    x, y, z = problem.irreps
    product = TensorProduct(
        x,
        y,
        z,
        backend=request.name,
        coupling=problem.coupling,
        weights=problem.weights,
        mode=problem.mode,
        **request.options,
    ).to(device=device, dtype=dtype)
    return Contender(
        request.label,
        product,
        lambda operands: operands,
        lambda result: result,
        product.exact,
        problem.restriction,
        product,
    )


def relative_error(contender: Contender, problem: Problem, operands: Operands) -> float:
    """Deviation of a few rows from the definition, ‖result − reference‖ / ‖reference‖.

    Raises:
        ConfigError: a contender that claims to be exact computes something else.
    """
    few = operands.rows(_CHECKED_ROWS)
    with torch.no_grad():
        result = contender.restore(contender.call(*contender.adopt(few).arguments)).to(torch.float64)
    expected = reference_product(problem, few)
    error = float((result - expected).norm() / expected.norm())
    if contender.exact and not error < _TOLERANCE[operands.x.dtype]:
        raise ConfigError(
            f"'{contender.label}' deviates from the definition by {error:.1e}: it does not compute this function."
        )
    return error


def _value(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text
