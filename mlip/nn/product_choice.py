"""Which tensor product a part of a network uses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlip.errors import ConfigError
from mlip.tensor_products import Backend, ProductSpec
from mlip.tensor_products.advisor import fastest_backend
from mlip.tensor_products.backend import backend_class, build_backend
from mlip.tensor_products.couplings import Coupling
from mlip.tensor_products.cp_target import CPTarget
from mlip.tensor_products.spec import WeightStructure


@dataclass(frozen=True)
class ProductChoice:
    """A backend with its options, a coupling, and the structure of the weights.

    Attributes:
        backend: A name in `mlip.tensor_products.backends()`, or `auto` for the fastest exact one on this machine.
        coupling: Which function is computed.
        weights: `per_path`, `per_degree` or `shared`.
        options: Options of the backend.
    """

    backend: str = "clebsch_gordan"
    coupling: Coupling = "clebsch_gordan"
    weights: WeightStructure = "per_path"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sums_paths(self) -> bool:
        """Whether the paths to one output are summed, because weights do not tell them apart."""
        return self.weights != "per_path"

    def require_per_path(self) -> None:
        """Refuse a backend that has no weights per path.

        Raises:
            ConfigError: it has none.
        """
        if self.backend != "auto" and "per_path" not in backend_class(self.backend).weight_structures:
            raise ConfigError(
                f"the backend '{self.backend}' has no 'per_path' weights: choose per_degree or shared, "
                "or the backend clebsch_gordan."
            )

    def build(self, spec: ProductSpec, channels: int, channels_in2: int) -> Backend:
        """Build the backend for a spec.

        A rank that is more than any decomposition of the spec needs stands for that many: a network has small products
        too, such as those of the first layer's scalars.

        Args:
            spec: What is to be computed.
            channels: Channels of the first operand.
            channels_in2: Channels of the second operand.

        Raises:
            ConfigError: the backend cannot compute it.
        """
        backend = self.backend
        if backend == "auto":
            backend = fastest_backend(spec, channels, channels_in2)
        options = dict(self.options)
        if isinstance(options.get("rank"), int):
            options["rank"] = min(options["rank"], CPTarget.of(spec).always_enough)
        return build_backend(backend, spec, options)
