"""The configuration inside a SevenNet checkpoint, and ours for the same network."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from ase.data import chemical_symbols
from e3nn.o3 import Irrep, Irreps
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mlip.configuration import parse_config
from mlip.errors import CheckpointError, ConfigError
from mlip.nn.layout import canonical_irreps, natural_irreps

WHERE = "the configuration of the SevenNet checkpoint"
# What a network of ours can be; a key that is missing has the value that SevenNet takes by default, among these.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "_model_type": ("E3_equivariant_model",),
    "interaction_type": ("nequip",),
    "use_modality": (False,),
    "use_bias_in_linear": (False,),
    "readout_as_fcn": (False,),
    "optimize_by_reduce": (True,),
    "act_radial": ("silu",),
    "act_scalar": ({"e": "silu", "o": "tanh"},),
    "act_gate": ({"e": "silu", "o": "tanh"},),
}
# As our own configuration allows, so that a damaged file cannot fill the memory.
MOST_CHANNELS, HIGHEST_DEGREE = 4096, 11
# From it on checkpoints say whether their harmonics are normalised, and normalise them by default.
NORMALISED_SINCE = (0, 10)
# From it on the columns of the radial network are ordered by output irrep.
SORTED_SINCE = (0, 11)


class RadialBasisConfig(BaseModel):
    """Of the radial basis."""

    radial_basis_name: Literal["bessel"] = "bessel"
    bessel_basis_num: int = Field(default=8, ge=1)


class CutoffConfig(BaseModel):
    """Of the cutoff function."""

    cutoff_function_name: Literal["poly_cut", "XPLOR"] = "poly_cut"
    poly_cut_p_value: int = 6
    cutoff_on: float | None = None


class SevenNetConfig(BaseModel):
    """The keys of a SevenNet checkpoint that tell its network, with the package's defaults; others are left alone.

    Attributes:
        type_map: Number of each element, by atomic number, in the order of the weights.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True, allow_inf_nan=False)

    version: str
    type_map: dict[int, int] = Field(alias="_type_map", min_length=1)
    cutoff: float = 4.5
    channel: int = Field(default=32, ge=1, le=MOST_CHANNELS)
    irreps_manual: list[str] | Literal[False] = False
    lmax: int = Field(default=1, ge=0, le=HIGHEST_DEGREE)
    lmax_edge: int = Field(default=-1, le=HIGHEST_DEGREE)
    lmax_node: int = Field(default=-1, le=HIGHEST_DEGREE)
    is_parity: bool = True
    num_convolution_layer: int = Field(default=3, ge=1, le=64)
    radial_basis: RadialBasisConfig = RadialBasisConfig()
    cutoff_function: CutoffConfig = CutoffConfig()
    weight_nn_hidden_neurons: list[int] = [64, 64]
    self_connection_type: Literal["nequip", "linear"] | list[Literal["nequip", "linear"]] = "nequip"
    normalize_sph: bool | None = Field(default=None, alias="_normalize_sph")

    @field_validator("version")
    @classmethod
    def _readable_version(cls, version: str) -> str:
        if not re.match(r"\d+\.\d+", version):
            raise ValueError("a version is two numbers or more, such as 0.9.1")
        return version

    @field_validator("type_map")
    @classmethod
    def _numbered_elements(cls, type_map: dict[int, int]) -> dict[int, int]:
        if sorted(type_map.values()) != list(range(len(type_map))):
            raise ValueError("elements are not numbered from 0 on")
        if not all(0 < number < len(chemical_symbols) for number in type_map):
            raise ValueError("a key is no atomic number")
        return type_map

    @property
    def parsed_version(self) -> tuple[int, int]:
        """Its first two numbers."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(re.match(r"\d+", minor).group())  # type: ignore[union-attr]

    @property
    def columns_are_sorted(self) -> bool:
        """Whether the radial networks' columns are ordered by output irrep, not by input irrep."""
        return self.parsed_version >= SORTED_SINCE and not self.version.startswith("0.11.0.dev0")

    @property
    def harmonics_are_normalised(self) -> bool:
        """Whether harmonics depend on the edge's direction alone."""
        return self.parsed_version >= NORMALISED_SINCE if self.normalize_sph is None else self.normalize_sph

    @property
    def harmonics(self) -> Irreps:
        """Irreps of the harmonics of an edge."""
        return natural_irreps(1, self.lmax_edge if self.lmax_edge > 0 else self.lmax, -1 if self.is_parity else 1)

    @property
    def self_connections(self) -> list[str]:
        """The type of each layer's self-connection."""
        types = self.self_connection_type
        return list(types) if isinstance(types, list) else [types] * self.num_convolution_layer

    def features(self) -> list[Irreps]:
        """Irreps of the features before each layer and after the last one, in SevenNet's order.

        Raises:
            ConfigError: one of them is no list of irreps.
        """
        if self.irreps_manual:
            for text in self.irreps_manual:
                canonical_irreps(text)
            return [Irreps(text) for text in self.irreps_manual]
        irreps = [Irreps([(self.channel, "0e")])]
        highest = self.lmax_node if self.lmax_node > 0 else self.lmax
        for _ in range(self.num_convolution_layer - 1):
            products = self.products(irreps[-1], highest)
            irreps.append(Irreps([(self.channel, irrep) for irrep in sorted(products)]))
        return [*irreps, Irreps([(self.channel, "0e")])]

    def products(self, irreps: Irreps, highest: int) -> set[Irrep]:
        """Irreps up to the degree `highest` in the product of features with the harmonics."""
        every = {each for _, irrep in irreps for _, harmonic in self.harmonics for each in irrep * harmonic}
        return {irrep for irrep in every if irrep.l <= highest}


def parse_sevennet_config(values: Mapping[str, Any]) -> SevenNetConfig:
    """Read and check the configuration of a checkpoint.

    Raises:
        CheckpointError: it is not that of a SevenNet model, or of one that is no network of ours.
    """
    for key, allowed in SUPPORTED.items():
        if key in values and not any(type(values[key]) is type(each) and values[key] == each for each in allowed):
            raise CheckpointError(
                f"the SevenNet checkpoint has '{key}: {values[key]!r}', which cannot be imported; "
                f"only models with '{key}: {allowed[0]!r}' can."
            )
    try:
        config = parse_config(SevenNetConfig, values, WHERE)
        _check(config)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    return config


def _check(config: SevenNetConfig) -> None:
    """Refuse what every key allows by itself but not together.

    Raises:
        ConfigError: layers without irreps or self-connection, features that no network of ours has, or a cutoff
            without an onset.
    """
    layers = config.num_convolution_layer
    if config.irreps_manual and len(config.irreps_manual) != layers + 1:
        raise ConfigError(f"{WHERE} has {len(config.irreps_manual)} 'irreps_manual' for {layers} layers, not one more.")
    if len(config.self_connections) != layers:
        raise ConfigError(f"{WHERE} has {len(config.self_connections)} 'self_connection_type' for {layers} layers.")
    for irreps in config.features():
        if irreps.lmax > HIGHEST_DEGREE or any(channels > MOST_CHANNELS for channels, _ in irreps):
            raise ConfigError(f"features '{irreps}' in {WHERE} are beyond any use; copy or download it again.")
        kinds = [irrep for _, irrep in irreps]
        if len(set(kinds)) < len(kinds):
            raise ConfigError(f"features '{irreps}' in {WHERE} have an irrep twice, which cannot be imported.")
        if kinds != sorted(kinds, key=lambda irrep: irrep.l > 0):
            raise ConfigError(f"features '{irreps}' in {WHERE} have scalars after others, where its gates have not.")
    if config.cutoff_function.cutoff_function_name == "XPLOR" and config.cutoff_function.cutoff_on is None:
        raise ConfigError(f"{WHERE} has the cutoff function XPLOR without 'cutoff_on'.")


def our_config(config: SevenNetConfig, elements: list[str]) -> dict[str, Any]:
    """Ours for the same network, but for what the weights tell: scale, reference energies and average neighbours.

    Args:
        config: That of the checkpoint.
        elements: Chemical symbols of the elements to keep, by atomic number.

    Raises:
        CheckpointError: features of equal irreps have different channels in different layers.
    """
    features = config.features()
    channels = {irrep: number for irreps in features for number, irrep in irreps}
    for before, after in pairwise(features):
        for number, irrep in [*before, *after]:
            if channels[irrep] != number:
                raise CheckpointError(
                    f"the SevenNet checkpoint has features '{before}' and '{after}' in different layers; only models "
                    "whose layers have equal channels can be imported."
                )
    cutoff = config.cutoff_function
    # Different layers may have different self-connections; a shared one is one per element with equal weights.
    shared = set(config.self_connections) == {"linear"}
    return {
        "architecture": "nequip",
        "elements": elements,
        "symmetry": "O3" if config.is_parity else "SO3",
        "hidden_irreps": str(canonical_irreps(Irreps([(number, irrep) for irrep, number in channels.items()]))),
        "l_max": config.harmonics.lmax,
        "layers": config.num_convolution_layer,
        "cutoff": config.cutoff,
        "cutoff_power": cutoff.poly_cut_p_value,
        "cutoff_onset": cutoff.cutoff_on if cutoff.cutoff_function_name == "XPLOR" else None,
        "radial_functions": config.radial_basis.bessel_basis_num,
        "radial_hidden": config.weight_nn_hidden_neurons,
        "self_connection": "shared" if shared else "per_element",
        "solid_harmonics": not config.harmonics_are_normalised,
    }
