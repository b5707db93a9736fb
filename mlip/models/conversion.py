"""Gives a trained model another backend for its tensor products."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers

from mlip.data.graphs import build_graph
from mlip.data.structures import Structure
from mlip.errors import ConfigError
from mlip.models.build import build_model
from mlip.models.config import parse_model_config
from mlip.models.network import Network
from mlip.models.potential import Potential
from mlip.tensor_products import Backend
from mlip.tensor_products.backend import backend_class


def with_backend(model: Potential, backend: str, parts: Sequence[str] = ()) -> Potential:
    """The same potential with the same weights, its tensor products computed by another backend.

    Args:
        model: The potential.
        backend: A name in `mlip.tensor_products.backends()`, or `auto`.
        parts: Which products, `convolution` or `contraction`; by default all that the backend can compute.

    Returns:
        A potential that computes the same energies to rounding, of the same dtype, on the same device.

    Raises:
        ConfigError: the backend computes none of these products, or not exactly, or the model's are truncated.
    """
    values = model.config.model_dump()
    products: dict[str, dict[str, Any]] = values["tensor_product"]
    for part in parts:
        if part not in products:
            raise ConfigError(f"the model has no '{part}': choose among {', '.join(products)}.")
    chosen = [part for part in parts or products if parts or _computes(backend, products[part])]
    if not chosen:
        found = ", ".join(f"'{each['coupling']}' with {each['weights']} weights" for each in products.values())
        raise ConfigError(
            f"the backend '{backend}' computes none of the model's products ({found}): choose another backend, or "
            "train a model with a coupling that it has."
        )
    for part in chosen:
        products[part].update(backend=backend, rank=None, trainable=False, algorithm=None)
    converted = build_model(parse_model_config(values), str(model.dtype).removeprefix("torch."))
    for network in (model.network, converted.network):
        if any(_truncated(network, part) for part in chosen):
            raise ConfigError(
                "a product of truncated rank is a function of its own, which no other backend computes: "
                "keep the model's backend cp."
            )
    converted.load_state_dict(model.state_dict())
    converted.provenance = model.provenance
    return converted.to(model.device).train(model.training)


def _truncated(network: Network, part: str) -> bool:
    """Whether a product of a part of the network is not exact; layers keep their products under the part's name."""
    return any(
        isinstance(module, Backend) and not module.exact and part in name.split(".")
        for name, module in network.named_modules()
    )


def _computes(backend: str, product: dict[str, Any]) -> bool:
    if backend == "auto":
        return True
    chosen = backend_class(backend)
    return product["coupling"] in chosen.couplings and product["weights"] in chosen.weight_structures


def largest_energy_difference(first: Potential, second: Potential) -> float:
    """Largest difference of an atom's energy between two potentials in float64, eV, on a random cluster.

    The cluster has four atoms of each element, with neighbours at distances from a third of the cutoff on.
    """
    rng = np.random.default_rng(0)
    numbers = np.repeat([atomic_numbers[symbol] for symbol in first.elements], 4)
    spacing = first.cutoff / 2.0
    side = int(np.ceil(len(numbers) ** (1 / 3)))
    corners = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[: len(numbers)]
    positions = spacing * (corners + rng.uniform(-0.15, 0.15, corners.shape))
    graph = build_graph(Structure(numbers, positions), first.cutoff)
    with torch.no_grad():
        energies = [copy.deepcopy(each).double().eval()(graph, forces=False).energies for each in (first, second)]
    return float((energies[0] - energies[1]).abs().max())
