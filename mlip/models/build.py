"""Builds potentials from their configuration."""

from collections.abc import Mapping
from typing import Any

import torch

from mlip.errors import ConfigError
from mlip.models.config import MaceConfig, NequIPConfig, parse_model_config
from mlip.models.mace import Mace
from mlip.models.nequip import NequIP
from mlip.models.potential import Potential

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def build_model(config: Mapping[str, Any] | MaceConfig | NequIPConfig, dtype: str = "float32") -> Potential:
    """Build a potential with fresh weights, drawn from the configuration's seed.

    Args:
        config: Hyper-parameters, with the architecture's name under `architecture`.
        dtype: "float32" or "float64".

    Raises:
        ConfigError: the configuration is not valid, or the dtype is unknown.
    """
    if not isinstance(config, MaceConfig | NequIPConfig):
        config = parse_model_config(config)
    # Weights are drawn in float32, so that one seed gives one model whatever the dtype.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = Mace(config) if isinstance(config, MaceConfig) else NequIP(config)
        potential = Potential(config, network)
    return potential.to(torch_dtype(dtype))


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype named "float32" or "float64".

    Raises:
        ConfigError: another name.
    """
    if name not in DTYPES:
        raise ConfigError(f"dtype '{name}' is not supported; choose one of {', '.join(DTYPES)}.")
    return DTYPES[name]
