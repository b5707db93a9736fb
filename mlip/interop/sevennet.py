"""Reads SevenNet checkpoints (Park et al. 2024, doi 10.1021/acs.jctc.4c00190): the `nequip` architecture.

Versions 0.9 to 0.13 of the package `sevenn`, which names tensors and orders columns differently from version to
version; `docs/architectures.md` has the mapping.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ase.data import atomic_numbers, chemical_symbols

from mlip.errors import CheckpointError, ConfigError
from mlip.interop.sevennet_config import SevenNetConfig, our_config, parse_sevennet_config
from mlip.interop.sevennet_state import SevenNetState
from mlip.interop.sevennet_weights import atomic_values, check_sizes, denominator, network_weights
from mlip.models import Potential, build_model
from mlip.models.nequip import NequIP, NequIPLayer
from mlip.nn.layout import canonical_irreps


def is_sevennet(checkpoint: object) -> bool:
    """Whether the content of a checkpoint is that of a SevenNet checkpoint."""
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("model_state_dict"), Mapping):
        return False
    config = checkpoint.get("config")
    return isinstance(config, Mapping) and {"version", "_type_map"} <= set(config)


def read_sevennet(checkpoint: object, elements: Sequence[str] | None = None) -> Potential:
    """The potential of a SevenNet checkpoint.

    Args:
        checkpoint: Content of the file: a mapping with `config` and `model_state_dict`, its tensors on the CPU.
        elements: Chemical symbols of the elements to keep; all by default.

    Returns:
        A `nequip` potential in float64, so that nothing is rounded, in evaluation mode.

    Raises:
        CheckpointError: it is no SevenNet checkpoint, is damaged, or its model is no network of ours.
        ConfigError: the model does not know one of the elements, or none is given.
    """
    if not is_sevennet(checkpoint) or not isinstance(checkpoint, Mapping):
        raise CheckpointError("the file holds no SevenNet checkpoint; give one as SevenNet's training writes it.")
    config = parse_sevennet_config(checkpoint["config"])
    state = SevenNetState(checkpoint["model_state_dict"])
    kept = _kept_elements(config, elements)
    order = [config.type_map[int(atomic_numbers[symbol])] for symbol in kept]
    check_sizes(state, config)
    values: dict[str, Any] = our_config(config, kept)
    values["average_neighbours"] = denominator(state, 0) ** 2
    for key, name in (("reference_energies", "shift"), ("scale", "scale")):
        values[key] = dict(zip(kept, atomic_values(state, name, config)[order].tolist(), strict=True))
    try:
        model = build_model(values, "float64")
    except ConfigError as error:
        raise CheckpointError(f"the SevenNet checkpoint cannot be imported: {error}") from None
    network = model.network
    assert isinstance(network, NequIP)
    _check_features(config, network)
    weights = network_weights(state, config, network, order)
    state.check_all_taken()
    network.load_state_dict(weights)
    model.provenance = {"package": f"sevenn {config.version}"}
    return model.eval()


def _kept_elements(config: SevenNetConfig, elements: Sequence[str] | None) -> list[str]:
    """Chemical symbols sorted by atomic number.

    Raises:
        ConfigError: the model does not know one of the elements, or none is given.
    """
    known = [chemical_symbols[number] for number in sorted(config.type_map)]
    if elements is None:
        return known
    unknown = [symbol for symbol in elements if symbol not in known]
    if unknown:
        raise ConfigError(f"the SevenNet checkpoint does not know '{unknown[0]}'; it knows {', '.join(known)}.")
    if not elements:
        raise ConfigError("no elements are to be kept; name some of the checkpoint's, or leave them out to keep all.")
    return [symbol for symbol in known if symbol in elements]


def _check_features(config: SevenNetConfig, network: NequIP) -> None:
    """Compare the irreps between layers with those of our network, which follow from the hidden irreps alone.

    Raises:
        CheckpointError: they differ.
    """
    layers = [layer for layer in network.layers if isinstance(layer, NequIPLayer)]
    ours = [layers[0].up.irreps_in, *(layer.gate.irreps_out for layer in layers)]
    for number, (theirs, each) in enumerate(zip(config.features(), ours, strict=True)):
        if canonical_irreps(theirs) != each:
            raise CheckpointError(
                f"the SevenNet checkpoint has features '{theirs}' after {number} layers, where a network of this "
                f"package has '{each}'; such a model cannot be imported."
            )
