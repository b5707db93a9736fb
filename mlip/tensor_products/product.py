"""The tensor product of two features, with a backend that can be swapped."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from mlip.errors import ConfigError
from mlip.so3 import rotation_matrices
from mlip.tensor_products.backend import Backend, Work, backend_class, build_backend
from mlip.tensor_products.couplings import COUPLINGS, Coupling, choose
from mlip.tensor_products.spec import WEIGHT_STRUCTURES, ProductPath, ProductSpec, WeightStructure

Mode = Literal["channelwise", "elementwise"]


@dataclass(frozen=True)
class _Group:
    """Entries of one number of channels, which the paths connect among themselves."""

    channels: int
    in1: list[int]
    in2: list[int]
    out: list[int]


class TensorProduct(nn.Module):
    """Equivariant product of two features, `z = sum over paths of weight * coupling(x, y)`.

    The coupling says which function is computed, the backend how: backends of one coupling agree to rounding. Operands
    and weights may be float32 or float64, on any device; constants are computed in float64 and follow them.

    A path connects an entry of irreps_in1 and one of irreps_in2 to one of irreps_out where rotations, inversion, the
    coupling and the channels allow: the first operand and the result have equal channels.

    Args:
        irreps_in1: Irreps of x.
        irreps_in2: Irreps of y; in the mode `channelwise` one channel each.
        irreps_out: Irreps of the result; the paths to one entry are summed.
        backend: A name in `backends()`, or `auto` for the fastest exact one on this machine.
        coupling: `clebsch_gordan`, `gaunt`, `bracket`, `gaunt+bracket` or `matrix`; by default the backend's own.
        weights: `none` for the bare coupling; `per_path` for a weight per path and channel, laid out `[paths,
            channels]` in the order of `paths`; `per_degree` for a[l1] b[l2] c[l3] per channel, laid out `[entries of
            in1, of in2, of out, channels]`; `shared` for one weight per channel. Where entries have unequal channels,
            such a layout for each number of channels follows the other, the first entry's first. By default `per_path`
            where the backend has it, else `per_degree`.
        mode: `channelwise`: the single channel of y multiplies every channel of x (e3nn's `uvu`); `elementwise`: equal
            channels are multiplied (`uuu`).
        own_weights: Whether the weights are parameters of the module instead of an argument of each call.
        options: Options of the backend, for example `rank=` for `cp` or `algorithm=` for `clebsch_gordan`.

    Attributes:
        paths: The paths, in the order of per-path weights.
        coupling: Which function is computed.
        backend: Name of the backend.
        weight_numel: Number of weights of a call.

    Raises:
        ConfigError: irreps that cannot couple, or a coupling, weights or option that the backend does not have.
    """

    def __init__(
        self,
        irreps_in1: Irreps | str,
        irreps_in2: Irreps | str,
        irreps_out: Irreps | str,
        *,
        backend: str = "clebsch_gordan",
        coupling: Coupling | None = None,
        weights: WeightStructure | None = None,
        mode: Mode = "channelwise",
        own_weights: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.irreps_in1, self.irreps_in2, self.irreps_out = (
            _readable(irreps) for irreps in (irreps_in1, irreps_in2, irreps_out)
        )
        if weights is not None:
            choose("weight structure", weights, WEIGHT_STRUCTURES)
        choose("mode", mode, get_args(Mode))
        if coupling is not None:
            choose("coupling", coupling, COUPLINGS)
        self.mode = mode
        self.weights: WeightStructure = weights or _default_weights(backend)
        self.coupling: Coupling = coupling or _default_coupling(backend)
        self.options = {name: value for name, value in options.items() if value is not None}
        self._groups = self._grouped()
        specs = [self._spec(group) for group in self._groups]
        self._refuse_unreached(specs)
        self.backend = self._fastest(specs) if backend == "auto" else backend
        self.products = nn.ModuleList([build_backend(self.backend, spec, self.options) for spec in specs])
        self.paths: tuple[ProductPath, ...] = tuple(
            path._replace(in1=group.in1[path.in1], in2=group.in2[path.in2], out=group.out[path.out])
            for group, spec in zip(self._groups, specs, strict=True)
            for path in spec.paths
        )
        self._register_columns()
        self._widths = [spec.weight_rows * group.channels for group, spec in zip(self._groups, specs, strict=True)]
        self.weight_numel = sum(self._widths)
        self.weight = nn.Parameter(torch.randn(self.weight_numel)) if own_weights and self.weight_numel else None

    @property
    def exact(self) -> bool:
        """Whether the coupling is computed to rounding."""
        return all(product.exact for product in self._backends)

    @property
    def error(self) -> float:
        """Relative Frobenius error of the coupling tensor, the largest of the numbers of channels; 0 where exact."""
        return max(product.error for product in self._backends)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the product.

        Args:
            x: [batch, irreps_in1.dim], in e3nn's layout: an entry's channels one after another.
            y: [batch, irreps_in2.dim].
            weight: [batch, weight_numel], or [weight_numel] for all rows; not given where there is none or it is owned.

        Returns:
            [batch, irreps_out.dim].

        Raises:
            ConfigError: an operand has another shape.
        """
        weight = self._checked(x, y, weight)
        results = []
        column = 0
        for number, (group, product, width) in enumerate(zip(self._groups, self._backends, self._widths, strict=True)):
            part = None
            if weight is not None:
                part = weight[:, column : column + width].unflatten(1, (-1, group.channels))
                column += width
            first = self._in_order(f"columns_in1_{number}", x).unflatten(1, (-1, group.channels))
            second = self._in_order(f"columns_in2_{number}", y)
            second = second.unflatten(1, (-1, group.channels if self.mode == "elementwise" else 1))
            results.append(product(first, second, part).flatten(1))
        return self._in_order("columns_out", results[0] if len(results) == 1 else torch.cat(results, 1))

    def equivariance_error(self, seed: int = 0) -> float:
        """Largest deviation from equivariance under random rotations and reflections, relative, in float64.

        It is max over operations g of ‖f(gx, gy) − g f(x, y)‖ / ‖f(x, y)‖ over a batch of normal operands.
        """
        generator = torch.Generator().manual_seed(seed)
        device = "cpu" if self.weight is None else self.weight.device

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

        x, y = normal(16, self.irreps_in1.dim), normal(16, self.irreps_in2.dim)
        weight = normal(self.weight_numel) if self.weight_numel and self.weight is None else None
        worst = 0.0
        with torch.no_grad():
            reference = self(x, y, weight)
            for number in range(6):
                operation, _ = torch.linalg.qr(normal(3, 3))
                if (torch.linalg.det(operation) < 0) != (number % 2 == 1):
                    operation = -operation
                acted = self(act(x, self.irreps_in1, operation), act(y, self.irreps_in2, operation), weight)
                difference = acted - act(reference, self.irreps_out, operation)
                worst = max(worst, float(difference.norm() / reference.norm()))
        return worst

    def work(self, batch: int, dtype: torch.dtype = torch.float32) -> Work:
        """Counted work of a forward call on `batch` rows, without the conversion of layouts."""
        parts = [
            product.work(batch, group.channels, group.channels if self.mode == "elementwise" else 1, dtype.itemsize)
            for group, product in zip(self._groups, self._backends, strict=True)
        ]
        weights = self.weight_numel * dtype.itemsize * (1 if self.weight is not None else batch)
        return Work(sum(part.flops for part in parts), sum(part.bytes for part in parts) + weights)

    def extra_repr(self) -> str:
        """Irreps, coupling, backend and weights, for `repr`."""
        return (
            f"{self.irreps_in1} x {self.irreps_in2} -> {self.irreps_out}, {self.mode}, coupling={self.coupling}, "
            f"backend={self.backend}, weights={self.weights}, {len(self.paths)} paths"
        )

    @property
    def _backends(self) -> list[Backend]:
        return list(self.products)  # type: ignore[arg-type]

    def _grouped(self) -> list[_Group]:
        """Entries of equal channels; with one channel in y its entries belong to every group."""
        if self.mode == "channelwise":
            wide = [str(each) for each in self.irreps_in2 if each.mul != 1]
            if wide:
                raise ConfigError(
                    f"irreps_in2 holds '{wide[0]}', and in the mode channelwise y has one channel per entry: "
                    "write '1o+1o' for '2x1o', or choose the mode elementwise."
                )
        groups = []
        for channels in Counter(mul for mul, _ in self.irreps_out):
            in1, in2, out = (
                [number for number, (mul, _) in enumerate(irreps) if mul == channels]
                for irreps in (self.irreps_in1, self.irreps_in2, self.irreps_out)
            )
            if self.mode == "channelwise":
                in2 = list(range(len(self.irreps_in2)))
            if not (in1 and in2):
                raise ConfigError(
                    f"irreps_out {self.irreps_out} has entries of {channels} channels and the operands "
                    f"{self.irreps_in1} and {self.irreps_in2} have none to couple to them: give them equal channels."
                )
            groups.append(_Group(channels, in1, in2, out))
        return groups

    def _spec(self, group: _Group) -> ProductSpec:
        def chosen(irreps: Irreps, entries: list[int]) -> tuple[Irrep, ...]:
            return tuple(irreps[entry].ir for entry in entries)

        return ProductSpec(
            chosen(self.irreps_in1, group.in1),
            chosen(self.irreps_in2, group.in2),
            chosen(self.irreps_out, group.out),
            self.coupling,
            self.weights,
        )

    def _refuse_unreached(self, specs: list[ProductSpec]) -> None:
        for group, spec in zip(self._groups, specs, strict=True):
            reached = {path.out for path in spec.paths}
            for position, entry in enumerate(group.out):
                if position not in reached:
                    raise ConfigError(
                        f"no path of the coupling '{self.coupling}' leads from {self.irreps_in1} and "
                        f"{self.irreps_in2} to '{self.irreps_out[entry]}': leave it out of irreps_out"
                        + ("." if self.coupling == "clebsch_gordan" else ", or choose the coupling clebsch_gordan.")
                    )

    def _fastest(self, specs: list[ProductSpec]) -> str:
        from mlip.tensor_products.advisor import fastest_backend

        heaviest = max(zip(specs, self._groups, strict=True), key=lambda pair: len(pair[0].paths) * pair[1].channels)
        channels = heaviest[1].channels
        return fastest_backend(heaviest[0], channels, channels if self.mode == "elementwise" else 1)

    def _register_columns(self) -> None:
        """Which columns of the operands, one after another, are those that a backend sees, and back for the results."""
        results = []
        for number, group in enumerate(self._groups):
            channels_in2 = group.channels if self.mode == "elementwise" else 1
            in1 = _channel_last(self.irreps_in1, group.in1, group.channels)
            in2 = _channel_last(self.irreps_in2, group.in2, channels_in2)
            for name, columns, irreps in (("in1", in1, self.irreps_in1), ("in2", in2, self.irreps_in2)):
                self.register_buffer(f"columns_{name}_{number}", _unless_all(columns, irreps), persistent=False)
            results.append(_channel_last(self.irreps_out, group.out, group.channels))
        columns_out = torch.argsort(torch.cat(results))
        self.register_buffer("columns_out", _unless_all(columns_out, self.irreps_out), persistent=False)

    def _in_order(self, name: str, features: Tensor) -> Tensor:
        """The named columns of features; all of them as they are where there is nothing to reorder."""
        columns: Tensor | None = getattr(self, name)
        # One gather is several times faster than transposing entry by entry, its derivative even more so.
        return features if columns is None else features.index_select(1, columns.to(features.device))

    def _checked(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor | None:
        """The weights of the call, [batch or 1, weight_numel]; shapes that do not fit are refused."""
        for name, operand, irreps in (("x", x, self.irreps_in1), ("y", y, self.irreps_in2)):
            if operand.ndim != 2 or operand.shape[1] != irreps.dim:
                raise ConfigError(
                    f"{name} has shape {list(operand.shape)}: give [batch, {irreps.dim}], that is irreps {irreps}."
                )
        if len(x) != len(y):
            raise ConfigError(f"x has {len(x)} rows and y has {len(y)}: give both the same batch.")
        if self.weight is not None:
            if weight is not None:
                raise ConfigError(
                    "this product owns its weights: call it without any, or build it without own_weights."
                )
            return self.weight.to(x.dtype)[None]
        if weight is None:
            if self.weight_numel:
                raise ConfigError(
                    f"this product has {self.weight_numel} weights: give them as [batch, {self.weight_numel}] or "
                    f"[{self.weight_numel}], or build it with own_weights=True."
                )
            return None
        rows = weight[None] if weight.ndim == 1 else weight
        if rows.ndim != 2 or rows.shape[1] != self.weight_numel or len(rows) not in (1, len(x)):
            raise ConfigError(
                f"the weights have shape {list(weight.shape)}: give [{len(x)}, {self.weight_numel}] or "
                f"[{self.weight_numel}]" + ("." if self.weight_numel else ", that is none, for weights='none'.")
            )
        return rows if self.weight_numel else None


def act(features: Tensor, irreps: Irreps, operation: Tensor) -> Tensor:
    """Rotate or reflect features [batch, irreps.dim] by an orthogonal matrix [3, 3], in e3nn's layout."""
    degrees = rotation_matrices(irreps.lmax, operation)
    reflected = bool(torch.linalg.det(operation) < 0)
    acted = []
    for (mul, irrep), columns in zip(irreps, irreps.slices(), strict=True):
        # The matrices hold the parity (-1)^l of harmonics.
        sign = irrep.p * (-1) ** irrep.l if reflected else 1
        rows = features[:, columns].unflatten(1, (mul, irrep.dim))
        acted.append((rows @ (sign * degrees[irrep.l]).T).flatten(1))
    return torch.cat(acted, 1)


def _readable(irreps: Irreps | str) -> Irreps:
    try:
        parsed = Irreps(irreps)
    except (ValueError, IndexError):
        raise ConfigError(f"'{irreps}' is no list of irreps; write for example '16x0e+16x1o'.") from None
    kept = Irreps([(mul, irrep) for mul, irrep in parsed if mul])
    if not kept:
        raise ConfigError("irreps of a tensor product are empty; write for example '16x0e+16x1o'.")
    return kept


def _default_coupling(backend: str) -> Coupling:
    return "clebsch_gordan" if backend == "auto" else backend_class(backend).couplings[0]


def _default_weights(backend: str) -> WeightStructure:
    has_paths = backend == "auto" or "per_path" in backend_class(backend).weight_structures
    return "per_path" if has_paths else "per_degree"


def _channel_last(irreps: Irreps, entries: list[int], channels: int) -> Tensor:
    """Columns of entries, each [channels, components] in e3nn's layout, in the order [components, channels]."""
    slices = irreps.slices()
    columns = [torch.arange(slices[entry].start, slices[entry].stop).view(channels, -1).T for entry in entries]
    return torch.cat([each.flatten() for each in columns])


def _unless_all(columns: Tensor, irreps: Irreps) -> Tensor | None:
    """The columns, or None where they are all columns of the irreps in their order."""
    return None if torch.equal(columns, torch.arange(irreps.dim)) else columns
