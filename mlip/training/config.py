"""The configuration of a training run: what its keys are, and how it is read from YAML and the command line."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from yaml import YAMLError  # type: ignore[import-untyped]

from mlip.configuration import parse_config
from mlip.data.labels import PROPERTIES, LabelKeys, Property
from mlip.errors import ConfigError, FileMissingError
from mlip.models.config import ModelConfig

Term = Property | Literal["total_charge"]
TERMS: tuple[Term, ...] = (*PROPERTIES, "total_charge")  # Of the loss.


class _Section(BaseModel):
    """A section refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid")


def _as_paths(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Paths = Annotated[list[str], BeforeValidator(_as_paths)]


def _validation_set(value: Any) -> float | list[str]:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1:
        return float(value)
    paths = _as_paths(value)
    if isinstance(paths, list) and paths and all(isinstance(path, str) for path in paths):
        return paths
    raise ValueError("expected a fraction between 0 and 1, a path, or a list of paths")


def _reference_energies(value: Any) -> str | dict[str, float]:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and all(
        isinstance(energy, int | float) and not isinstance(energy, bool) for energy in value.values()
    ):
        return {str(symbol): float(energy) for symbol, energy in value.items()}
    raise ValueError("expected fit, isolated_atoms, energies in eV by element symbol, or the path of a file")


class DataConfig(_Section):
    """Where the labelled structures are: files that ASE reads or HDF5 stores."""

    train: Paths = Field(min_length=1)
    validation: Annotated[float | list[str], PlainValidator(_validation_set)] = 0.1  # A fraction of `train`, or paths.
    test: Paths = []
    keys: LabelKeys = LabelKeys()


class LossStage(_Section):
    """Weights that hold from an epoch on; a property left out keeps the weight that it had."""

    epoch: PositiveInt  # The first epoch is epoch 1.
    energy: NonNegativeFloat | None = None
    forces: NonNegativeFloat | None = None
    stress: NonNegativeFloat | None = None
    charges: NonNegativeFloat | None = None
    dipole: NonNegativeFloat | None = None
    total_charge: NonNegativeFloat | None = None


class LossConfig(_Section):
    """Weights of the squared or Huber errors of energy per atom (eV), forces (eV/Å), stress (eV/Å³), charges of atoms
    (e), dipole (e Å), and of the total charge (e) that predicted charges have before they are corrected."""

    energy: NonNegativeFloat = 10.0
    forces: NonNegativeFloat = 100.0
    stress: NonNegativeFloat = 0.0
    charges: NonNegativeFloat = 0.0
    dipole: NonNegativeFloat = 0.0
    total_charge: NonNegativeFloat = 0.0
    kind: Literal["mse", "huber"] = "mse"
    delta: PositiveFloat = 0.01  # Where Huber's loss turns from quadratic to linear, in the units of the property.
    stages: list[LossStage] = []

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: list[LossStage]) -> list[LossStage]:
        if any(later.epoch <= earlier.epoch for earlier, later in pairwise(stages)):
            raise ValueError("stages must come in the order of their epochs")
        return stages

    def weights(self, epoch: int) -> tuple[float, ...]:
        """Weights in the order of `TERMS` in an epoch, the first of which is 1."""
        weights = {name: getattr(self, name) for name in TERMS}
        for stage in self.stages:
            if stage.epoch <= epoch:
                weights |= {name: value for name in TERMS if (value := getattr(stage, name)) is not None}
        return tuple(weights[name] for name in TERMS)

    def largest_weights(self) -> dict[Term, float]:
        """Per term the largest weight that it ever has; zero says that its labels are not needed."""
        epochs = [1, *(stage.epoch for stage in self.stages)]
        return dict(zip(TERMS, map(max, zip(*map(self.weights, epochs), strict=True)), strict=True))

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if not any(self.weights(1)):
            raise ValueError("energy, forces and all else have zero weight, so there is nothing to learn")
        return self


class OptimizerConfig(_Section):
    """Adam; the weight decay is its L2 penalty and leaves vectors and scalars alone."""

    learning_rate: PositiveFloat = 0.01
    weight_decay: NonNegativeFloat = 5.0e-7
    amsgrad: bool = True
    gradient_clip: PositiveFloat | None = 10.0  # The largest Euclidean norm of the gradient.


class PlateauSchedule(_Section):
    """Multiply the learning rate by `factor` when the validation loss has not improved for `patience` epochs."""

    kind: Literal["plateau"] = "plateau"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    patience: PositiveInt = 10
    minimum: NonNegativeFloat = 0.0


class CosineSchedule(_Section):
    """Let the learning rate fall along half a cosine, reaching `minimum` after the last epoch."""

    kind: Literal["cosine"]
    minimum: NonNegativeFloat = 0.0


class BatchConfig(_Section):
    """A batch is filled with structures up to a number of edges (neighbour pairs, both directions counted)."""

    max_edges: PositiveInt = 4000


class TrainingConfig(_Section):
    """Everything a run depends on. Units: eV, Å."""

    model: ModelConfig
    data: DataConfig
    reference_energies: Annotated[str | dict[str, float], PlainValidator(_reference_energies)] = "fit"
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: PlateauSchedule | CosineSchedule = Field(default=PlateauSchedule(), discriminator="kind")
    batch: BatchConfig = BatchConfig()
    # Intervals of the tables that stand in for radial networks in training, where convolutions are kernels; null: none.
    radial_knots: Annotated[int, Field(ge=16)] | None = 256
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.99  # Decay of the moving average of the weights; null: none.
    epochs: PositiveInt = 100
    patience: PositiveInt = 50  # Epochs without a better validation loss after which the run stops.
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    output: str = "runs/model"

    @model_validator(mode="after")
    def _charges_to_compare(self) -> Self:
        kind = self.model.long_range.charges if self.model.long_range else "none"
        learnt: dict[Term, tuple[str, ...]] = {
            "charges": ("predicted", "equilibrated"),
            "dipole": ("predicted", "equilibrated"),
            "total_charge": ("predicted",),
        }
        for name, kinds in learnt.items():
            if self.loss.largest_weights()[name] > 0 and kind not in kinds:
                raise ValueError(
                    f"loss.{name} has weight and the model's charges are {kind}; give the model 'long_range' with "
                    f"{' or '.join(kinds)} charges, or the loss no such weight"
                )
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a YAML file and lay `key=value` overrides such as `optimizer.learning_rate=0.005` over it.

    Raises:
        FileMissingError: the file does not exist.
        ConfigError: the file is no YAML mapping, an override has no `=`, a key is unknown, or a value is of the wrong
            type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileMissingError(f"The configuration '{path}' does not exist; check the path.")
    for override in overrides:
        if "=" not in override.lstrip("="):
            raise ConfigError(f"The override '{override}' has no '='; write it as key=value, for example epochs=50.")
    try:
        base = OmegaConf.load(path)
        if not OmegaConf.is_dict(base):
            raise ConfigError(f"The configuration '{path}' holds no keys; write it as YAML of the form 'key: value'.")
        merged = OmegaConf.merge(base, OmegaConf.from_dotlist(list(overrides)))
        values = dict(cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True)))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"The configuration '{path}' cannot be read as YAML: {problem}.") from error
    return parse_config(TrainingConfig, values, f"the configuration '{path}'")
