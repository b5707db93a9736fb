"""Hyper-parameters of the architectures."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import ase.data
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator

from mlip.configuration import parse_config
from mlip.errors import ConfigError
from mlip.nn.layout import canonical_irreps
from mlip.nn.product_choice import ProductChoice
from mlip.tensor_products.backend import backend_class
from mlip.tensor_products.couplings import Coupling

# Far beyond any use, so that a mistyped number or a damaged file cannot fill the memory.
Size = Annotated[int, Field(ge=1, le=4096)]
Layers = Annotated[int, Field(ge=1, le=64)]
Correlation = Annotated[int, Field(ge=1, le=4)]
Interaction = Literal["residual", "mixing", "density_residual", "density_mixing"]


class ProductConfig(BaseModel):
    """How one kind of tensor product of a network is computed.

    Attributes:
        backend: A name in `mlip.tensor_products.backends()`, or auto for the fastest exact one on this machine.
        coupling: Which function is computed; that of the backend by default.
        weights: A weight per path and channel, which `clebsch_gordan` alone has and is its default; per degree, the
            default of the others; or one per channel for all paths.
        rank: For `cp`: a number, or exact, the default.
        trainable: For `cp`: whether the factors move in training, away from the coupling and from equivariance.
        algorithm: For backends that have several.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    backend: str = "clebsch_gordan"
    coupling: Coupling | None = None
    weights: Literal["per_path", "per_degree", "shared"] | None = None
    rank: Annotated[int, Field(ge=1)] | Literal["exact"] | None = None
    trainable: bool = False
    algorithm: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """Write the defaults that depend on other keys out, so that a model's file says what it computes."""
        if not isinstance(values, Mapping):
            return values
        backend = values.get("backend", "clebsch_gordan")
        coupling, weights = values.get("coupling"), values.get("weights")
        if backend != "auto":
            chosen = backend_class(backend)
            coupling = coupling or chosen.couplings[0]
            per_path = coupling == "clebsch_gordan" and "per_path" in chosen.weight_structures
        else:
            coupling = coupling or "clebsch_gordan"
            per_path = coupling == "clebsch_gordan"
        return {**values, "coupling": coupling, "weights": weights or ("per_path" if per_path else "per_degree")}

    @property
    def choice(self) -> ProductChoice:
        """What the building blocks of the networks take."""
        options = {"rank": self.rank, "trainable": self.trainable or None, "algorithm": self.algorithm}
        given = {name: value for name, value in options.items() if value is not None}
        return ProductChoice(self.backend, self.coupling or "clebsch_gordan", self.weights or "per_path", given)


class NequIPProducts(BaseModel):
    """Tensor products of the `nequip` architecture; keys of one product stand for the convolution's."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    convolution: ProductConfig = ProductConfig()

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not values or set(values) & set(cls.model_fields):
            return values
        return {name: dict(values) for name in cls.model_fields}


class MaceProducts(NequIPProducts):
    """Tensor products of the `mace` architecture; keys of one product stand for both."""

    contraction: ProductConfig = ProductConfig()


# The widest Gaussian charges, in cutoffs: erfc is 2e-5 at the cutoff then, and the envelope takes away 6e-4 at most.
LARGEST_WIDTH = 1.0 / 6.0


class LongRangeConfig(BaseModel):
    """Charges of the atoms and their electrostatic energy, which the energy of the network is added to.

    Attributes:
        charges: "predicted" from the invariant features and corrected to the total charge; "equilibrated", of least
            energy for predicted electronegativities and hardnesses; or "fixed", the same in all surroundings.
        element_charges: Of "fixed" charges, e by element; where empty, each structure brings those of its atoms.
        widths: Standard deviations of the Gaussian charges, Å by element, up to a sixth of the model's cutoff; the
            covalent radius where none is given, or a sixth of the cutoff if that is less.
        trainable_widths: Whether the widths are trained from there.
        tolerance: Of the electrostatic solver, relative.
        method: Of the electrostatic solver; "auto" for the fastest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    charges: Literal["predicted", "equilibrated", "fixed"]
    element_charges: dict[str, float] = {}
    widths: dict[str, Annotated[float, Field(gt=0.0)]] = {}
    trainable_widths: bool = False
    tolerance: Annotated[float, Field(gt=1e-14, lt=0.1)] = 1e-6
    method: Literal["auto", "direct", "ewald", "chebyshev_tucker"] = "auto"

    @property
    def brought(self) -> bool:
        """Whether each structure brings the charges of its atoms."""
        return self.charges == "fixed" and not self.element_charges

    @model_validator(mode="after")
    def _given_charges_where_fixed(self) -> "LongRangeConfig":
        if self.element_charges and self.charges != "fixed":
            raise ValueError(f"element_charges go with 'charges: fixed' and these are '{self.charges}'; remove them")
        return self


class ArchitectureConfig(BaseModel):
    """What both architectures share.

    Attributes:
        elements: Chemical symbols; atoms of any other element are refused. Sorted by atomic number.
        hidden_irreps: Irreps of the atom features between layers, in e3nn's notation.
        l_max: Highest degree of the spherical harmonics of the edges.
        layers: Number of interaction layers.
        cutoff: Distance up to which atoms see each other, Å.
        radial_basis: Functions that describe an edge's length.
        radial_functions: Their number.
        cutoff_power: Power p of the polynomial cutoff; larger ends later and steeper.
        radial_hidden: Units in the hidden layers of the radial networks.
        average_neighbours: Mean number of neighbours in the training data, which normalises sums over neighbours.
        reference_energies: Energy of an isolated atom of each element, eV; 0 where none is given.
        scale: Factor on the network's energy per atom, eV; a number or one per element.
        shift: Added to the scaled energy per atom, eV; a number or one per element.
        zbl: Adds the screened nuclear repulsion of Ziegler, Biersack and Littmark.
        zbl_form: With the constants of the "universal" screening function, added to the energy; or with those of
            "mace", ended by `cutoff_power` and scaled like the network's energy.
        long_range: Adds charges and their electrostatic energy; none by default.
        seed: Seed of the initial weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    elements: list[str] = []
    hidden_irreps: str = "64x0e+64x1o"
    l_max: Annotated[int, Field(ge=0, le=11)] = 3
    layers: Layers = 2
    cutoff: Annotated[float, Field(gt=0.0)] = 5.0
    radial_basis: Literal["bessel", "gaussian"] = "bessel"
    radial_functions: Size = 8
    cutoff_power: Annotated[int, Field(ge=2)] = 6
    radial_hidden: list[Size] = [64, 64, 64]
    average_neighbours: Annotated[float, Field(gt=0.0)] = 16.0
    reference_energies: dict[str, float] = {}
    scale: float | dict[str, float] = 1.0
    shift: float | dict[str, float] = 0.0
    zbl: bool = False
    zbl_form: Literal["universal", "mace"] = "universal"
    long_range: LongRangeConfig | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("elements")
    @classmethod
    def _known_elements(cls, elements: list[str]) -> list[str]:
        for symbol in elements:
            if symbol not in ase.data.atomic_numbers or symbol == "X":
                raise ValueError(f"'{symbol}' is no chemical symbol")
        return sorted(set(elements), key=lambda symbol: int(ase.data.atomic_numbers[symbol]))

    @field_validator("hidden_irreps")
    @classmethod
    def _readable_irreps(cls, hidden_irreps: str) -> str:
        try:
            irreps = canonical_irreps(hidden_irreps)
        except ConfigError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if irreps.count("0e") == 0:
            raise ValueError("the features need invariant channels; add for example '32x0e'")
        return str(irreps)

    @model_validator(mode="after")
    def _values_of_known_elements(self) -> "ArchitectureConfig":
        for name in ("reference_energies", "scale", "shift"):
            values = getattr(self, name)
            unknown = [symbol for symbol in values if symbol not in self.elements] if isinstance(values, dict) else []
            if unknown and self.elements:
                raise ValueError(f"{name} names '{unknown[0]}', which is not among the elements {self.elements}")
        return self

    @model_validator(mode="after")
    def _charges_of_all_elements(self) -> "ArchitectureConfig":
        if self.long_range is None or not self.elements:
            return self
        for name in ("element_charges", "widths"):
            unknown = [symbol for symbol in getattr(self.long_range, name) if symbol not in self.elements]
            if unknown:
                raise ValueError(
                    f"long_range.{name} names '{unknown[0]}', which is not among the elements {self.elements}"
                )
        charges = self.long_range.element_charges
        missing = [symbol for symbol in self.elements if symbol not in charges]
        if charges and missing:
            raise ValueError(f"long_range.element_charges has no charge of {missing[0]}; give one, or none at all")
        return self

    @model_validator(mode="after")
    def _charges_within_the_cutoff(self) -> "ArchitectureConfig":
        largest = LARGEST_WIDTH * self.cutoff
        for symbol, width in (self.long_range.widths if self.long_range else {}).items():
            if width > largest:
                raise ValueError(
                    f"long_range.widths has {width} Å for {symbol}, which is more than a sixth of the cutoff; take "
                    f"{largest:.4g} Å at most, or a larger cutoff"
                )
        return self


class MaceConfig(ArchitectureConfig):
    """Hyper-parameters of the `mace` architecture.

    Attributes:
        correlation: Correlation order of the many-body products, one for all layers or one for each; a layer has
            (correlation + 1)-body terms.
        interaction: Whether weights of an atom's element act on its own features, in a "residual" around the many-body
            products, or on the sum over its neighbours, "mixing" its channels before them; and whether that sum is
            divided by `average_neighbours` or, with "density_" in front, by a learned density of the neighbours.
        first_interaction: That of the first layer; the same as the others' by default.
        distance_transform: What the radial functions see in place of an edge's length, in units of the sizes of its
            atoms; the length itself by default.
        tensor_product: How convolution and contraction are computed.
        readout_hidden: Units in the hidden layer of the last readout, where there are several layers.
    """

    architecture: Literal["mace"]
    correlation: Correlation | list[Correlation] = 3
    interaction: Interaction = "residual"
    first_interaction: Interaction | None = None
    distance_transform: Literal["agnesi", "soft"] | None = None
    tensor_product: MaceProducts = MaceProducts()
    readout_hidden: Size = 16

    @model_validator(mode="after")
    def _one_correlation_per_layer(self) -> "MaceConfig":
        if isinstance(self.correlation, list) and len(self.correlation) != self.layers:
            raise ValueError(
                f"correlation has {len(self.correlation)} values for {self.layers} layers; give one for each, or a "
                "single number"
            )
        return self

    @property
    def correlations(self) -> list[int]:
        """Correlation order of each layer."""
        return self.correlation if isinstance(self.correlation, list) else [self.correlation] * self.layers

    @property
    def interactions(self) -> list[Interaction]:
        """Kind of interaction of each layer."""
        return [self.first_interaction or self.interaction] + [self.interaction] * (self.layers - 1)


class NequIPConfig(ArchitectureConfig):
    """Hyper-parameters of the `nequip` architecture.

    Attributes:
        symmetry: "O3", or "SO3" for features and harmonics without parity (all hidden irreps even), so that the energy
            may change under reflections, as in SevenNet's models.
        self_connection: Whether the linear map of an atom's own features is one "per_element" or "shared" by all.
        solid_harmonics: Lets harmonics of degree l grow as the l-th power of the edge's length, as in the first
            models of SevenNet.
        cutoff_onset: Distance where an XPLOR cutoff sets in, Å, which replaces the polynomial; none by default.
        tensor_product: How the convolution is computed.
    """

    architecture: Literal["nequip"]
    symmetry: Literal["O3", "SO3"] = "O3"
    self_connection: Literal["per_element", "shared"] = "per_element"
    solid_harmonics: bool = False
    cutoff_onset: Annotated[float, Field(ge=0.0)] | None = None
    tensor_product: NequIPProducts = NequIPProducts()
    hidden_irreps: str = "32x0e+32x1o+32x2e"
    l_max: Annotated[int, Field(ge=0, le=11)] = 2
    layers: Layers = 4
    radial_hidden: list[Size] = [64, 64]

    @model_validator(mode="after")
    def _even_without_reflections(self) -> "NequIPConfig":
        odd = [str(irrep) for _, irrep in canonical_irreps(self.hidden_irreps) if irrep.p == -1]
        if self.symmetry == "SO3" and odd:
            raise ValueError(f"with the symmetry SO3 irreps are even, and '{odd[0]}' is not; write '{odd[0][:-1]}e'")
        return self

    @model_validator(mode="after")
    def _onset_before_cutoff(self) -> "NequIPConfig":
        if self.cutoff_onset is not None and self.cutoff_onset >= self.cutoff:
            raise ValueError(
                f"cutoff_onset is {self.cutoff_onset} Å and has to be below the cutoff, {self.cutoff} Å; lower it"
            )
        return self


ModelConfig = Annotated[MaceConfig | NequIPConfig, Field(discriminator="architecture")]


class _AnyModel(RootModel[ModelConfig]):
    """Lets pydantic choose the configuration class by the architecture's name."""


def parse_model_config(values: Mapping[str, Any], where: str = "the model configuration") -> MaceConfig | NequIPConfig:
    """Check hyper-parameters given as plain keys and values.

    Raises:
        ConfigError: naming the key that is unknown, missing or holds a wrong value.
    """
    return parse_config(_AnyModel, values, where).root
