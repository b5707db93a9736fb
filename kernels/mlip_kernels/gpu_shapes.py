"""Couplings of the shapes that usual models have, for kernels that are compiled without a model at hand.

Only what decides about registers has to be right: which components couple, and which coefficients are equal. Models
bring their own tables.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from mlip_kernels.channelwise_convolution.table import ConvolutionPath, ConvolutionTable
from mlip_kernels.symmetric_contraction.table import ContractionTable, ContractionTerm


def convolution_shape(channels: Sequence[int], l_max: int, even: bool = True) -> ConvolutionTable:
    """All paths from irreps 0, 1, … of these channel counts, by harmonics up to l_max, to irreps up to l_max.

    Args:
        channels: Channels of the input irrep of each degree.
        l_max: Highest degree of the harmonics and of the output.
        even: Only couplings of even l1 + l2 + l3, those that keep natural parity.
    """
    triples = [
        (l1, l2, l3)
        for l3, l1, l2 in product(range(l_max + 1), range(len(channels)), range(l_max + 1))
        if abs(l1 - l2) <= l3 <= l1 + l2 and not (even and (l1 + l2 + l3) % 2)
    ]
    offsets = np.cumsum([0, *((2 * degree + 1) * count for degree, count in enumerate(channels))]).tolist()
    outputs = {l3: sum(channels[l1] for l1, _, other in triples if other == l3) for l3 in range(l_max + 1)}
    paths: list[ConvolutionPath] = []
    weight_offset = output_offset = output_channel = 0
    for number, (l1, l2, l3) in enumerate(triples):
        coefficients = real_coupling(l1, l2, l3) * (2 * l3 + 1) ** 0.5
        places = (offsets[l1], l2 * l2, weight_offset, output_offset, outputs[l3], output_channel, channels[l1])
        paths.append(ConvolutionPath(*places, coefficients))
        weight_offset += channels[l1]
        output_channel += channels[l1]
        if number + 1 == len(triples) or triples[number + 1][2] != l3:
            output_offset += (2 * l3 + 1) * outputs[l3]
            output_channel = 0
    return ConvolutionTable(tuple(paths), offsets[-1], (l_max + 1) ** 2, weight_offset, output_offset)


def contraction_shape(l_max: int, outputs: Sequence[int], correlation: int) -> ContractionTable:
    """A contraction of (l_max + 1)^2 components to irreps of natural parity, one product for each of its monomials.

    A monomial of real harmonics can have a part in an output component where the degrees have an even sum, the number
    of sines is even, and some choice of signs makes the orders m of all add up to zero; some of these, 8 in 100, have
    none for other reasons.
    """
    components = [(degree, m) for degree in range(l_max + 1) for m in range(-degree, degree + 1)]
    terms: list[ContractionTerm] = []
    weights = 0
    for number, degree in enumerate(outputs):
        for order in range(1, correlation + 1):
            coupled: dict[tuple[int, ...], NDArray[np.bool_]] = {}
            for monomial in combinations_with_replacement(range(len(components)), order):
                factors = [components[factor] for factor in monomial]
                row = [_couple([*factors, (degree, m)]) for m in range(-degree, degree + 1)]
                if any(row):
                    coupled[monomial] = np.array(row)
            if coupled:
                coefficients = np.stack(list(coupled.values()), 1)[None].astype(np.float64)
                terms.append(ContractionTerm(number, np.array(list(coupled)), coefficients, weights))
                weights += 1
    return ContractionTable(tuple(terms), len(components), tuple(2 * degree + 1 for degree in outputs), weights)


def real_coupling(l1: int, l2: int, l3: int) -> NDArray[np.float64]:
    """The invariant of three irreps in real bases, of norm 1 and either sign, float64 [2*l1+1, 2*l2+1, 2*l3+1].

    It is what the generators of rotations, acting on all three, take to zero.
    """
    sizes = [2 * degree + 1 for degree in (l1, l2, l3)]
    ones = [np.eye(size) for size in sizes]
    blocks = []
    for axis in range(3):
        generators = [_real_generators(degree)[axis] for degree in (l1, l2, l3)]
        total = np.zeros((np.prod(sizes), np.prod(sizes)))
        for place, generator in enumerate(generators):
            factors = [*ones]
            factors[place] = generator
            total += np.kron(np.kron(factors[0], factors[1]), factors[2])
        blocks.append(total)
    _, vectors = np.linalg.eigh(sum(block.T @ block for block in blocks))
    invariant = vectors[:, 0]
    return np.where(np.abs(invariant) < 1e-12, 0.0, invariant).reshape(sizes)


def _real_generators(degree: int) -> list[NDArray[np.float64]]:
    """Generators of rotations about x, y, z on real harmonics of a degree, in the order m = -degree … degree."""
    m = np.arange(-degree, degree + 1)
    raising = np.diag(np.sqrt(degree * (degree + 1) - m[:-1] * (m[:-1] + 1.0)), -1).astype(complex)
    momenta = [(raising + raising.T) / 2, (raising - raising.T) / 2j, np.diag(m).astype(complex)]
    basis = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    basis[degree, degree] = 1
    for order in range(1, degree + 1):
        sign = (-1) ** order
        basis[degree + order, [degree + order, degree - order]] = np.array([sign, 1]) / np.sqrt(2)
        basis[degree - order, [degree + order, degree - order]] = np.array([-1j * sign, 1j]) / np.sqrt(2)
    return [np.real(-1j * basis.conj() @ momentum @ basis.T) for momentum in momenta]


def _couple(factors: Sequence[tuple[int, int]]) -> bool:
    """Whether a product of real harmonics, given by degree and order, can have a part that no rotation changes."""
    if sum(degree for degree, _ in factors) % 2 or sum(m < 0 for _, m in factors) % 2:
        return False
    return 0 in _signed_sums([abs(m) for _, m in factors])


def _signed_sums(orders: Sequence[int]) -> Iterator[int]:
    for signs in product((1, -1), repeat=len(orders)):
        yield sum(sign * order for sign, order in zip(signs, orders, strict=True))
