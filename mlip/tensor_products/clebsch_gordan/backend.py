"""The Clebsch-Gordan backend and its choice among algorithms."""

from typing import ClassVar

from torch import Tensor, nn

from mlip.tensor_products.backend import Backend, Work
from mlip.tensor_products.clebsch_gordan.algorithm import Algorithm
from mlip.tensor_products.clebsch_gordan.dense import Dense
from mlip.tensor_products.clebsch_gordan.edge_matrix import EdgeMatrix
from mlip.tensor_products.clebsch_gordan.sparse import Sparse
from mlip.tensor_products.clebsch_gordan.tally import Tally
from mlip.tensor_products.couplings import COUPLINGS, Coupling, choose
from mlip.tensor_products.spec import WEIGHT_STRUCTURES, ProductSpec, WeightStructure

ALGORITHMS: dict[str, type[Algorithm]] = {"sparse": Sparse, "dense": Dense, "edge_matrix": EdgeMatrix}


class ClebschGordan(Backend):
    """Sum over paths of any coupling, with any weights.

    Args:
        spec: What to compute.
        algorithm: `sparse`, `dense` or `edge_matrix`; without one, each call takes the one that is predicted to be the
            fastest for its numbers of rows and channels.

    Raises:
        ConfigError: there is no such algorithm.
    """

    couplings: ClassVar[tuple[Coupling, ...]] = COUPLINGS
    weight_structures: ClassVar[tuple[WeightStructure, ...]] = WEIGHT_STRUCTURES

    def __init__(self, spec: ProductSpec, *, algorithm: str | None = None) -> None:
        super().__init__(spec)
        if algorithm is not None:
            choose("algorithm", algorithm, ALGORITHMS)
        names = ALGORITHMS if algorithm is None else [algorithm]
        self.algorithms = nn.ModuleDict({name: ALGORITHMS[name](spec) for name in names})
        self._tallies: dict[tuple[int, int], dict[str, Tally]] = {}

    def algorithm_for(self, batch: int, channels: int, channels_in2: int) -> str:
        """Name of the algorithm that a call with so many rows and channels takes."""
        key = (channels, channels_in2)
        if key not in self._tallies:
            self._tallies[key] = {name: self._named(name).tally(*key) for name in self.algorithms}
        tallies = self._tallies[key]
        return min(tallies, key=lambda name: tallies[name].seconds(batch))

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        return self._chosen(len(x), x.shape[2], y.shape[2]).forward(x, y, weight)

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return self._chosen(len(x), x.shape[2], y.shape[2]).bilinear(x, y)

    def work(self, batch: int, channels: int, channels_in2: int, itemsize: int) -> Work:
        return self._chosen(batch, channels, channels_in2).work(batch, channels, channels_in2, itemsize)

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        return self._chosen(batch, channels, channels_in2).flops(batch, channels, channels_in2)

    def _chosen(self, batch: int, channels: int, channels_in2: int) -> Algorithm:
        return self._named(self.algorithm_for(batch, channels, channels_in2))

    def _named(self, name: str) -> Algorithm:
        return self.algorithms[name]  # type: ignore[return-value]
