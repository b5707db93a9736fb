"""The tensor products that are measured: irreps of growing degree, and operands for them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from mlip.errors import ConfigError
from mlip.tensor_products.couplings import Coupling, choose
from mlip.tensor_products.product import Mode
from mlip.tensor_products.spec import ProductSpec, WeightStructure

Setting = Literal["siso", "simo", "mimo", "network"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)
HIGHEST_DEGREE = 10


@dataclass(frozen=True)
class Problem:
    """One tensor product of degree L, `batch` rows of `channels` channels.

    `siso`, `simo` and `mimo` are those of Xie et al. 2025 (arXiv 2506.13523): a single irrep or all up to L on the way
    in, a single one or all on the way out. Their irreps are even, so that rotations alone choose the paths. `network`
    is the convolution of an equivariant network: features and harmonics of parity (-1)^l, y with one channel.

    Attributes:
        setting: `siso` L × L → L; `simo` L × L → 0 … 2L; `mimo` 0 … L × 0 … L → 0 … 2L; `network` 0 … L × 0 … L →
            0 … L.
        degree: L.
        coupling: Which function is computed.
        weights: Structure of the weights, which are given for each row, as a radial network does.
        mode: `channelwise` or `elementwise`; a network's convolution is channelwise.
        channels: Channels of x and of the result, and in the mode `elementwise` of y.
        batch: Rows.
    """

    setting: Setting
    degree: int
    coupling: Coupling
    weights: WeightStructure
    mode: Mode
    channels: int
    batch: int

    @cached_property
    def spec(self) -> ProductSpec:
        """What a backend has to compute; outputs that no path of the coupling reaches are left out.

        Raises:
            ConfigError: the coupling has no path at all.
        """
        everything = ProductSpec(*_irreps(self.setting, self.degree), self.coupling, self.weights)
        reached = sorted({path.out for path in everything.paths})
        if not reached:
            raise ConfigError(
                f"the coupling '{self.coupling}' has no path in the setting {self.setting} at degree {self.degree}: "
                "choose another degree or coupling."
            )
        outputs = tuple(everything.irreps_out[entry] for entry in reached)
        return ProductSpec(everything.irreps_in1, everything.irreps_in2, outputs, self.coupling, self.weights)

    @cached_property
    def irreps(self) -> tuple[Irreps, Irreps, Irreps]:
        """Of x, y and the result, with their channels."""
        widths = (self.channels, self.channels_in2, self.channels)
        x, y, z = (
            Irreps([(width, irrep) for irrep in irreps])
            for width, irreps in zip(widths, self.spec.operands, strict=True)
        )
        return x, y, z

    @property
    def channels_in2(self) -> int:
        """Channels of y."""
        return self.channels if self.mode == "elementwise" else 1

    @property
    def weight_numel(self) -> int:
        """Weights of a row."""
        return self.spec.weight_rows * self.channels

    @property
    def restriction(self) -> str:
        """In which paths and outputs the product falls short of the Clebsch-Gordan one; empty if it does not."""
        whole = ProductSpec(*_irreps(self.setting, self.degree), "clebsch_gordan", "none")
        if len(self.spec.paths) == len(whole.paths):
            return ""
        text = f"{len(self.spec.paths)} of {len(whole.paths)} paths"
        parities, all_parities = (
            {(path.irrep_in1.l + path.irrep_in2.l + path.irrep_out.l) % 2 for path in spec.paths}
            for spec in (self.spec, whole)
        )
        if len(parities) < len(all_parities):
            text = f"{('even', 'odd')[parities.pop()]} paths only, {text}"
        missing = len(whole.irreps_out) - len(self.spec.irreps_out)
        return text + (f", {missing} of {len(whole.irreps_out)} outputs missing" if missing else "")


def make_problem(
    setting: Setting,
    degree: int,
    *,
    coupling: Coupling = "clebsch_gordan",
    weights: WeightStructure = "none",
    mode: Mode = "elementwise",
    channels: int = 16,
    batch: int = 1000,
) -> Problem:
    """A problem whose numbers make sense; in the setting `network` the mode is channelwise whatever is asked for.

    Raises:
        ConfigError: a degree, channels or batch out of range.
    """
    if not 1 <= degree <= HIGHEST_DEGREE:
        raise ConfigError(f"the degree is {degree}: choose degrees from 1 to {HIGHEST_DEGREE}.")
    for name, value in (("channels", channels), ("batch", batch)):
        if value < 1:
            raise ConfigError(f"{name} is {value}: give at least 1.")
    chosen: Mode = "channelwise" if setting == "network" else mode
    return Problem(setting, degree, coupling, weights, chosen, channels, batch)


def parse_degrees(text: str) -> list[int]:
    """Degrees from a list such as `1,2,5` or `1-4,6`, ascending.

    Raises:
        ConfigError: it is no such list, or a degree is out of range.
    """
    degrees: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ConfigError(f"the degrees are '{text}': write a list such as 1-4 or 1,2,5.")
        degrees.update(range(int(first), int(last or first) + 1))
    wrong = sorted(degree for degree in degrees if not 1 <= degree <= HIGHEST_DEGREE)
    if wrong or not degrees:
        fact = f"hold {wrong[0]}" if wrong else f"are '{text}', which is an empty range"
        raise ConfigError(f"the degrees {fact}: choose degrees from 1 to {HIGHEST_DEGREE}.")
    return sorted(degrees)


def parse_names(kind: str, text: str, known: Sequence[str]) -> list[str]:
    """Names from a list such as `siso,mimo`, each once.

    Raises:
        ConfigError: one is not among the known ones.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        choose(kind, name, known)
    return list(dict.fromkeys(names))


class Operands(NamedTuple):
    """Arguments of a product, x, y and the weights (None without), each [batch, ...], and the result's cotangent."""

    x: Tensor
    y: Tensor
    weight: Tensor | None
    cotangent: Tensor

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """What the product depends on."""
        return (self.x, self.y) if self.weight is None else (self.x, self.y, self.weight)

    def rows(self, number: int) -> "Operands":
        """The first rows."""
        return Operands(*(None if each is None else each[:number] for each in self))  # type: ignore[arg-type]

    def to(self, dtype: torch.dtype) -> "Operands":
        """The same numbers in another dtype."""
        return Operands(*(None if each is None else each.to(dtype) for each in self))  # type: ignore[arg-type]


def make_operands(problem: Problem, dtype: torch.dtype, device: torch.device) -> Operands:
    """Normal operands, the same numbers for every contender; drawn on the CPU, so that devices agree."""
    generator = torch.Generator().manual_seed(problem.degree)

    def normal(columns: int) -> Tensor:
        return torch.randn(problem.batch, columns, generator=generator, dtype=dtype).to(device)

    x, y, z = (normal(irreps.dim) for irreps in problem.irreps)
    return Operands(x, y, normal(problem.weight_numel) if problem.weight_numel else None, z)


def _irreps(setting: Setting, degree: int) -> tuple[tuple[Irrep, ...], tuple[Irrep, ...], tuple[Irrep, ...]]:
    def even(degrees: Iterable[int]) -> tuple[Irrep, ...]:
        return tuple(Irrep(each, 1) for each in degrees)

    single, up_to, twice = [degree], range(degree + 1), range(2 * degree + 1)
    if setting == "siso":
        return even(single), even(single), even(single)
    if setting == "simo":
        return even(single), even(single), even(twice)
    if setting == "mimo":
        return even(up_to), even(up_to), even(twice)
    natural = tuple(Irrep(each, (-1) ** each) for each in up_to)
    return natural, natural, natural
