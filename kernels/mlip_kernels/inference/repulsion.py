"""Emits the screened nuclear repulsion of an edge."""

from mlip_kernels.inference.memory import Weights
from mlip_kernels.inference.spec import PairRepulsion
from mlip_kernels.simd.code import Code, Index, Real, Reals
from mlip_kernels.simd.functions import exponential


class RepulsionCode:
    """The repulsion of two atoms: the receiver's half of the energy, and its derivative.

    Args:
        spec: Constants.
        cutoff: Of the network, Å.
        weights: Takes what depends on elements.
    """

    def __init__(self, spec: PairRepulsion, cutoff: float, weights: Weights) -> None:
        self.spec = spec
        self._cutoff = cutoff
        self._places = [weights.add(each) for each in (spec.charges, spec.powers, spec.radii, spec.factors)]

    def emit(
        self, code: Code, weights: Reals, receiver: Index, sender: Index, distance: Real, energy: Reals, slope: Reals
    ) -> None:
        """Add the energy to the first number of `energy` and its derivative to that of `slope`.

        Args:
            weights: All constants of the program.
            receiver, sender: Elements.
            distance: Å.
        """
        charges, powers, radii, factors = (weights.at(place) for place in self._places)
        end = radii.get(receiver) + radii.get(sender)
        if self.spec.ends_at_cutoff:
            end = end.where(end.compare("<", self._cutoff), self._cutoff)
        with code.when(distance.compare("<", end)):
            rate = (powers.get(receiver) + powers.get(sender)) * (1.0 / self.spec.length)
            screening, screening_slope = code.number(0.0), code.number(0.0)
            for amplitude, decay in zip(self.spec.amplitudes, self.spec.decays, strict=True):
                decline = rate * -decay
                term = exponential(code.broadcast(decline * distance)).lane(0) * amplitude
                screening = screening + term
                screening_slope = code.fused_real(term, decline, screening_slope)
            envelope, envelope_slope = _envelope(code, distance, end, self.spec.envelope_power)
            factor = charges.get(receiver) * charges.get(sender) * factors.get(receiver) * (0.5 * self.spec.coulomb)
            inverse = 1.0 / distance
            bare = factor * inverse
            energy.set(0, energy.get(0) + bare * screening * envelope)
            change = screening_slope * envelope + screening * (envelope_slope - envelope * inverse)
            slope.set(0, slope.get(0) + bare * change)


def _envelope(code: Code, distance: Real, end: Real, power: int) -> tuple[Real, Real]:
    """The polynomial cutoff `1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)` and its derivative."""
    p = power
    x = distance / end
    below = code.number(1.0)
    for _ in range(p - 1):
        below = below * x
    rest = 1.0 - x
    polynomial = (p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2))
    return 1.0 - below * x * polynomial, below * rest * rest * (-p * (p + 1) * (p + 2) / 2) / end
