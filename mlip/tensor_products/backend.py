"""What a backend is, and which ones there are."""

import inspect
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar

import torch
from torch import Tensor

from mlip.errors import ConfigError
from mlip.tensor_products.couplings import Coupling, choose
from mlip.tensor_products.spec import ProductSpec, WeightStructure
from mlip_kernels.constants import ConstantModule

ENTRY_POINTS = "mlip.tensor_product_backends"
_OWN = {
    "clebsch_gordan": "mlip.tensor_products.clebsch_gordan:ClebschGordan",
    "cp": "mlip.tensor_products.cp:CP",
    "gaunt_fourier": "mlip.tensor_products.gaunt_fourier:GauntFourier",
    "spherical_grid": "mlip.tensor_products.spherical_grid:SphericalGrid",
    "matrix": "mlip.tensor_products.matrix:SpinMatrix",
}


@dataclass(frozen=True)
class Work:
    """What a forward product costs, counted, not measured.

    Attributes:
        flops: Additions and multiplications.
        bytes: Bytes of the operands, weights, constants and result, each counted once, in the dtype asked for.
    """

    flops: int
    bytes: int


class Backend(ConstantModule):
    """Base of the backends: one way to compute the products of a coupling.

    A backend is built for one `ProductSpec` and works on channel-last operands. Subclasses set the class attributes,
    refuse in `__init__` what they cannot do, and implement `bilinear`; those that can do better with weights than scale
    the operands override `forward`. Keyword-only parameters of `__init__` are the backend's options.

    Attributes:
        couplings: Couplings that it computes, the default first.
        weight_structures: Weight structures that it can run.
        pointwise: Whether its `factors` are the values of functions at points, the same points for both operands, so
            that powers of functions are powers of values.
        spec: What it computes.
    """

    couplings: ClassVar[tuple[Coupling, ...]]
    weight_structures: ClassVar[tuple[WeightStructure, ...]] = ("none", "shared", "per_degree")
    pointwise: ClassVar[bool] = False

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__()
        self.spec = spec
        self._casts: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}
        if spec.weights == "per_degree":
            for name, irreps in zip(("in1", "in2", "out"), spec.operands, strict=True):
                rows = [row for row, irrep in enumerate(irreps) for _ in range(irrep.dim)]
                self.register_buffer(f"rows_{name}", torch.tensor(rows), persistent=False)

    @property
    def exact(self) -> bool:
        """Whether the coupling is computed to rounding."""
        return True

    @property
    def error(self) -> float:
        """Frobenius norm of what the computed coupling tensor misses, relative to that of the coupling: 0 if exact."""
        return 0.0

    def constant(self, name: str, like: Tensor) -> Tensor:
        """The registered constant `name` in the dtype and on the device of an operand, cast from float64 once."""
        registered: Tensor = getattr(self, name)
        if registered.dtype == like.dtype and registered.device == like.device:
            return registered
        key = (name, like.dtype, like.device)
        if key not in self._casts:
            # A tensor made in inference mode could never serve autograd afterwards, and this one is kept.
            with torch.inference_mode(False):
                self._casts[key] = self._exact[name].to(like.device, like.dtype)
        return self._casts[key]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._casts.clear()

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """Compute the weighted product.

        Args:
            x: First operand, [batch, dims[0], channels].
            y: Second operand, [batch, dims[1], channels], or with one channel for all of x's.
            weight: [batch or 1, spec.weight_rows, channels]; None without weights.

        Returns:
            [batch, dims[2], channels].
        """
        if weight is None:
            return self.bilinear(x, y)
        if self.spec.weights == "shared":
            if self.spec.dims[0] <= self.spec.dims[2]:
                return self.bilinear(x * weight, y)
            return self.bilinear(x, y) * weight
        of_in1, of_in2, of_out = self.per_component(weight)
        return self.bilinear(x * of_in1, y * of_in2) * of_out

    def per_component(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Per-degree weights for every component of both operands and the result, [batch or 1, d, channels]."""
        parts = weight.split([len(irreps) for irreps in self.spec.operands], 1)
        rows = (self.get_buffer(f"rows_{name}").to(weight.device) for name in ("in1", "in2", "out"))
        first, second, third = (part.index_select(1, row) for part, row in zip(parts, rows, strict=True))
        return first, second, third

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the bare product of operands [batch, dims[0], channels] and [batch, dims[1], channels or 1]."""
        raise NotImplementedError

    def factors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Tables A [R, dims[0]], B [R, dims[1]], C [dims[2], R] of a backend that computes `C((A x) ⊙ (B y))`.

        They let a convolution sum over neighbours, and a many-body product take powers, where products are pointwise.

        Args:
            like: A tensor of the dtype and device wanted.

        Returns:
            The tables; None where the backend is of another kind.
        """
        return None

    def work(self, batch: int, channels: int, channels_in2: int, itemsize: int) -> Work:
        """Count the work of a forward product.

        Args:
            batch: Rows.
            channels: Channels of the first operand and of the result.
            channels_in2: Channels of the second operand.
            itemsize: Bytes of a number.
        """
        d1, d2, d3 = self.spec.dims
        numbers = batch * ((d1 + d3) * channels + d2 * channels_in2)
        constants = sum(buffer.numel() for buffer in self.buffers())
        return Work(self.flops(batch, channels, channels_in2), itemsize * (numbers + constants))

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        """Additions and multiplications of a forward bare product; see `work`."""
        raise NotImplementedError


def backends() -> dict[str, str]:
    """Names of all backends, ours and those installed beside us, with where each one lives (`module:class`)."""
    return _OWN | _installed()


@cache
def _installed() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS) if point.name not in _OWN}


def backend_class(name: str) -> type[Backend]:
    """The class of a backend.

    Raises:
        ConfigError: there is none of that name, or its module cannot be imported.
    """
    known = backends()
    choose("tensor product backend", name, known)
    module, _, attribute = known[name].partition(":")
    try:
        found: type[Backend] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the backend '{name}' cannot be loaded from '{known[name]}' ({error}): "
            "mend or uninstall the package that it comes from, or choose another backend."
        ) from error
    return found


def build_backend(name: str, spec: ProductSpec, options: dict[str, Any]) -> Backend:
    """Build a backend for a spec.

    Raises:
        ConfigError: the backend does not exist, cannot compute the coupling or the weights, or has no such option.
    """
    chosen = backend_class(name)
    if spec.coupling not in chosen.couplings:
        raise ConfigError(
            f"the backend '{name}' does not compute the coupling '{spec.coupling}': "
            f"choose one of {', '.join(chosen.couplings)}, or another backend."
        )
    if spec.weights not in chosen.weight_structures:
        raise ConfigError(
            f"the backend '{name}' has no '{spec.weights}' weights: "
            f"choose one of {', '.join(chosen.weight_structures)}, or the backend clebsch_gordan."
        )
    parameters = inspect.signature(chosen.__init__).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            remedy = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ConfigError(f"the backend '{name}' has no option '{option}': {remedy}.")
    return chosen(spec, **options)
