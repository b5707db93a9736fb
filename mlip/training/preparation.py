"""What a model takes from its training data: elements, reference energies, scale, shift, and number of neighbours."""

from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mlip.configuration import parse_config
from mlip.data.dataset import GraphDataset
from mlip.data.reading import iterate_structures
from mlip.data.statistics import dataset_statistics, fit_reference_energies, isolated_atom_energies
from mlip.errors import ConfigError, DataError, UnknownElementError
from mlip.training.config import TrainingConfig
from mlip.training.datasets import Frames


def find_elements(*sets: Frames) -> list[str]:
    """Symbols of the elements that occur, by atomic number."""
    numbers: set[int] = set()
    for frames in sets:
        for structure in frames:
            numbers.update(np.unique(structure.numbers).tolist())
    return [chemical_symbols[number] for number in sorted(numbers)]


def require_known_elements(frames: Frames, known: list[str]) -> None:
    """Raise UnknownElementError for an element that the model is not built for."""
    unknown = [symbol for symbol in find_elements(frames) if symbol not in known]
    if unknown:
        raise UnknownElementError(
            f"{', '.join(frames.paths)} holds {', '.join(unknown)}, while the model knows {', '.join(known)}; "
            "train on frames with it too (and add it to model.elements where that is given), or leave the frames out"
        )


def fill_model_config(config: TrainingConfig, elements: list[str], train: GraphDataset) -> TrainingConfig:
    """The configuration with every hyper-parameter of the model that was left to the data.

    Reference energies come from where `config.reference_energies` says; the scale is the root mean square of the force
    components (of the energy per atom without forces); the shift is the mean energy per atom left after the reference
    energies, and zero where these were fitted, since the fit has taken it up. Values that were given stay.

    Raises:
        ConfigError: the source of the reference energies is unknown, or values do not fit the elements.
        DataError: it lacks an element.
    """
    given = config.model.model_fields_set
    elements = config.model.elements or elements
    reference = config.model.reference_energies
    fitted = False
    if "reference_energies" not in given:
        fitted = config.reference_energies == "fit" and train.label_counts["energy"] > 0
        reference = _reference_energies(config, elements, train)
    statistics = dataset_statistics(train, reference)
    filled = {
        "elements": elements,
        "reference_energies": reference,
        "average_neighbours": statistics.average_neighbours or 1.0,
        "scale": statistics.force_rms or statistics.energy_std or 1.0,
        "shift": 0.0 if fitted else statistics.energy_mean or 0.0,
        "seed": config.seed,
    }
    # Validated anew, since pydantic's own copy with changes checks nothing.
    values = config.model.model_dump() | {key: value for key, value in filled.items() if key not in given}
    completed = config.model_dump() | {"model": values | {"elements": elements}}
    return parse_config(TrainingConfig, completed, "the configuration, with the elements of the training data,")


def _reference_energies(config: TrainingConfig, elements: list[str], train: GraphDataset) -> dict[str, float]:
    source = config.reference_energies
    if source == "fit":
        return fit_reference_energies(train.structures(), elements) if train.label_counts["energy"] else {}
    if isinstance(source, dict):
        energies, where = source, "the dictionary reference_energies"
    elif source == "isolated_atoms":
        energies, where = isolated_atom_energies(train.structures()), "the training data (as isolated atoms)"
    elif Path(source).is_file():
        energies, where = isolated_atom_energies(iterate_structures(source, config.data.keys)), f"'{source}'"
    else:
        raise ConfigError(
            f"reference_energies is '{source}', which is neither fit, nor isolated_atoms, nor the path of a file; "
            "correct it"
        )
    missing = [symbol for symbol in elements if symbol not in energies]
    if missing:
        raise DataError(
            f"{where} has no energy of an isolated atom of {missing[0]}; add it, or set reference_energies=fit"
        )
    return {symbol: float(energies[symbol]) for symbol in elements}
