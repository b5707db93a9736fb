"""Architectures, the potential around them, and the model file."""

from mlip.models.build import build_model
from mlip.models.config import MaceConfig, NequIPConfig, parse_model_config
from mlip.models.conversion import with_backend
from mlip.models.model_file import load, read_header, save
from mlip.models.potential import Potential
from mlip.models.prediction import Prediction

__all__ = [
    "MaceConfig",
    "NequIPConfig",
    "Potential",
    "Prediction",
    "build_model",
    "load",
    "parse_model_config",
    "read_header",
    "save",
    "with_backend",
]
