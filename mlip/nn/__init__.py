"""Building blocks of the networks: radial bases, equivariant maps, convolution, symmetric contraction, gate, ZBL."""

from mlip.nn.contraction import SymmetricContraction
from mlip.nn.convolution import Convolution
from mlip.nn.density import NeighbourDensity
from mlip.nn.elements import ElementGroups
from mlip.nn.gate import Gate
from mlip.nn.interaction import FeatureInteraction
from mlip.nn.linear import ElementLinear, EquivariantLinear
from mlip.nn.mlp import MLP
from mlip.nn.radial import RadialEmbedding, polynomial_cutoff
from mlip.nn.zbl import ZBLRepulsion

__all__ = [
    "MLP",
    "Convolution",
    "ElementGroups",
    "ElementLinear",
    "EquivariantLinear",
    "FeatureInteraction",
    "Gate",
    "NeighbourDensity",
    "RadialEmbedding",
    "SymmetricContraction",
    "ZBLRepulsion",
    "polynomial_cutoff",
]
