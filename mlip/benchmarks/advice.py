"""Which backend is the fastest for a network's convolution on this machine."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from e3nn.o3 import Irrep, Irreps

from mlip.errors import ConfigError
from mlip.tensor_products.advisor import measure_backends
from mlip.tensor_products.couplings import Coupling
from mlip.tensor_products.spec import ProductSpec, WeightStructure


@dataclass(frozen=True)
class Convolution:
    """Products of atom features with the harmonics of the edges, as a convolution needs them.

    Attributes:
        irreps: Of the features.
        l_max: Highest degree of the harmonics, which have one channel, and of the result, both with parity (-1)^l.
        edges: Number of products.
    """

    irreps: Irreps
    l_max: int
    edges: int

    def specs(self, coupling: Coupling, weights: WeightStructure) -> list[tuple[ProductSpec, int]]:
        """What a backend has to compute for each number of channels; outputs without a path are left out.

        Raises:
            ConfigError: the coupling has no path.
        """
        natural = tuple(Irrep(degree, (-1) ** degree) for degree in range(self.l_max + 1))
        specs = []
        for channels in Counter(mul for mul, _ in self.irreps):
            features = tuple(irrep for mul, irrep in self.irreps if mul == channels)
            whole = ProductSpec(features, natural, natural, coupling, weights)
            outputs = tuple(natural[entry] for entry in sorted({path.out for path in whole.paths}))
            if not outputs:
                raise ConfigError(
                    f"no path of the coupling '{coupling}' leads from {self.irreps} and harmonics up to degree "
                    f"{self.l_max} to degrees up to {self.l_max}: choose other irreps or another coupling."
                )
            specs.append((ProductSpec(features, natural, outputs, coupling, weights), channels))
        return specs


@dataclass(frozen=True)
class Advice:
    """Median seconds of the exact backends for one function, the fastest first; empty where there is none."""

    coupling: Coupling
    weights: WeightStructure
    paths: int
    seconds: dict[str, float]


def make_convolution(irreps: str, l_max: int, edges: int) -> Convolution:
    """A convolution whose numbers make sense.

    Raises:
        ConfigError: the irreps cannot be read, or a number is out of range.
    """
    try:
        parsed = Irreps([(mul, irrep) for mul, irrep in Irreps(irreps) if mul])
    except (ValueError, IndexError):
        parsed = Irreps([])
    if not parsed:
        raise ConfigError(f"'{irreps}' is no list of irreps: write for example 64x0e+64x1o.")
    if not 0 <= l_max <= 11:
        raise ConfigError(f"l_max is {l_max}: choose a degree from 0 to 11.")
    if edges < 1:
        raise ConfigError(f"the number of edges is {edges}: give at least 1.")
    return Convolution(parsed, l_max, edges)


def advise(
    convolution: Convolution,
    couplings: Sequence[Coupling],
    weights: Sequence[WeightStructure],
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[Advice]:
    """Measure every coupling with every structure of weights: products with their gradients, as training takes them.

    Raises:
        ConfigError: a coupling has no path.
    """
    for coupling in couplings:
        for structure in weights:
            specs = convolution.specs(coupling, structure)
            each = [
                measure_backends(spec, channels, 1, convolution.edges, dtype, str(device)) for spec, channels in specs
            ]
            common = [name for name in each[0] if all(name in times for times in each)]
            total = {name: sum(times[name] for times in each) for name in common}
            paths = sum(len(spec.paths) for spec, _ in specs)
            yield Advice(coupling, structure, paths, dict(sorted(total.items(), key=lambda item: item[1])))
