"""Chooses the building block that computes a configured tensor product."""

from collections.abc import Sequence
from typing import Any

from e3nn.o3 import Irreps

from mlip.errors import ConfigError
from mlip.nn.contraction import SymmetricContraction
from mlip.nn.convolution import Convolution
from mlip.nn.degree_contraction import DegreeContraction
from mlip.nn.product_choice import ProductChoice
from mlip.nn.summed_convolution import SummedConvolution
from mlip.tensor_products.couplings import choose
from mlip_kernels import channelwise_convolution


def convolution_irreps(irreps: Irreps, choice: ProductChoice) -> Irreps:
    """Irreps of the features that a convolution takes: equal channels, the most of any, where it sums paths."""
    if not choice.sums_paths:
        return irreps
    channels = max(mul for mul, _ in irreps)
    return Irreps([(channels, irrep) for _, irrep in irreps])


def build_convolution(
    irreps_in: Irreps,
    l_max: int,
    targets: Irreps,
    radial_widths: Sequence[int],
    choice: ProductChoice,
    parity: int = -1,
) -> Convolution | SummedConvolution:
    """The convolution of features with the irreps `convolution_irreps`.

    With weights per path and no algorithm named, it is the one that is fastest here.

    Raises:
        ConfigError: the backend has not the coupling, the weights, the algorithm or the option.
    """
    if choice.sums_paths:
        return SummedConvolution(irreps_in, l_max, targets, radial_widths, choice, parity)
    implementation = _options_per_path(choice).get("algorithm")
    if implementation is not None:
        choose("algorithm of the convolution", implementation, channelwise_convolution.IMPLEMENTATIONS)
    return Convolution(irreps_in, l_max, targets, radial_widths, implementation, parity, choice.coupling)


def build_contraction(
    l_max: int, channels: int, irreps_out: Irreps, correlation: int, num_elements: int, choice: ProductChoice
) -> SymmetricContraction | DegreeContraction:
    """The many-body products of a layer.

    Raises:
        ConfigError: the backend has not the coupling, the weights or the option.
    """
    if choice.sums_paths:
        return DegreeContraction(l_max, channels, irreps_out, correlation, num_elements, choice)
    if choice.coupling != "clebsch_gordan" or _options_per_path(choice):
        raise ConfigError(
            "the contraction with 'per_path' weights is that of MACE, which has the coupling clebsch_gordan and no "
            "options: choose weights per_degree for another coupling."
        )
    return SymmetricContraction(l_max, channels, irreps_out, correlation, num_elements)


def _options_per_path(choice: ProductChoice) -> dict[str, Any]:
    choice.require_per_path()
    options = dict(choice.options)
    for name in ("rank", "trainable"):
        if name in options:
            raise ConfigError(f"'{name}' belongs to the backend cp, which has no 'per_path' weights: leave it out.")
    return options
