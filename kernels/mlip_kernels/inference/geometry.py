"""Emits the edges of an atom: vectors, distances and harmonics; and the forces and virial from their gradients.

Solid harmonics R_l obey `R_(l+1) = a_l sum T^l R_l u` and `dR_(l+1)/du = (l + 1) a_l sum T^l R_l` with the isometry
T^l of degree l + 1 into degree l ⊗ degree 1 (as in Dusson et al. 2022 for their gradients); a_l keeps the squares of a
degree's components at 2l + 1 on the sphere.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlip_kernels.inference.memory import Space, Tile
from mlip_kernels.inference.repulsion import RepulsionCode
from mlip_kernels.inference.spec import Array
from mlip_kernels.simd.code import Code, Real, Reals

_ZERO = 1e-12


@dataclass(frozen=True, eq=False)
class Harmonics:
    """Real spherical harmonics of degrees 0 to `len(lifts)`, component-normalised."""

    lifts: tuple[Array, ...]

    @property
    def dim(self) -> int:
        """Number of components of all degrees."""
        return (len(self.lifts) + 1) ** 2

    @cached_property
    def steps(self) -> list[list[tuple[int, int, int, float]]]:
        """For each degree, the terms (component of the degree below, axis, component, factor) of its recursion."""
        direction = np.array([0.48, 0.6, 0.64])
        values = np.ones(1)
        steps = []
        for degree, lift in enumerate(self.lifts):
            raised = np.einsum("jki,j,k->i", lift, values, direction)
            factor = np.sqrt(2 * degree + 3) / np.linalg.norm(raised)
            values = raised * factor
            terms = [
                (int(j), int(k), int(i), float(lift[j, k, i] * factor)) for j, k, i in np.argwhere(abs(lift) > _ZERO)
            ]
            steps.append(terms)
        return steps

    def values(self, code: Code, direction: list[Real]) -> list[Real]:
        """Values for a unit vector."""
        values = [code.number(1.0)]
        below = values
        for degree, terms in enumerate(self.steps):
            totals: list[Real | None] = [None] * (2 * degree + 3)
            for j, k, i, factor in terms:
                product = direction[k] * factor
                total = totals[i]
                totals[i] = below[j] * product if total is None else code.fused_real(below[j], product, total)
            below = [total if total is not None else code.number(0.0) for total in totals]
            values = values + below
        return values

    def gradient(self, code: Code, values: Reals, received: Reals) -> list[Real]:
        """Gradient of `sum received_i R_i` with respect to the three components of the direction.

        The harmonic of degree 0 has none; `received` and `values` count it as component 0.
        """
        totals = [code.number(0.0) for _ in range(3)]
        for degree, terms in enumerate(self.steps):
            for j, k, i, factor in terms:
                product = received.get((degree + 1) ** 2 + i) * (factor * (degree + 1))
                totals[k] = code.fused_real(values.get(degree**2 + j), product, totals[k])
        return totals


def emit_edges(
    space: Space, harmonics: Harmonics, cutoff: float, tile: Tile, edge_slots: int, repulsion: RepulsionCode | None
) -> None:
    """Write the edges of the tile's atoms that are shorter than the cutoff, each atom's from its first pair on.

    Energies and gradients start with the repulsion, or at zero.
    """
    code, arguments = space.code, space.arguments
    positions, offsets, nearest = (arguments.wides(name) for name in ("positions", "offsets", "nearest"))
    starts, senders = arguments.indices("starts"), arguments.indices("senders")
    kept, kept_senders = arguments.indices("kept"), arguments.indices("kept_senders")
    distances, directions, values = (arguments.reals(name) for name in ("distances", "directions", "harmonics"))
    edge_sums = arguments.reals("edge_sums")
    with code.loop(tile.first, tile.first + tile.rows) as atom:
        energy = arguments.reals("energies").at(atom)
        energy.set(0, 0.0)
        first = starts.get(atom)
        count = code.variable(code.index(0))
        with code.loop(first, starts.get(atom + 1)) as pair:
            sender = senders.get(pair)
            vector = [
                (
                    positions.get(sender * 3 + axis) - positions.get(atom * 3 + axis) + offsets.get(pair * 3 + axis)
                ).narrow()
                for axis in range(3)
            ]
            square = vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]
            with code.when(square.compare("<", cutoff * cutoff)):
                edge = first + count.get()
                count.add(code.index(1))
                distance = code.root(square)
                inverse = 1.0 / distance
                direction = [component * inverse for component in vector]
                kept_senders.set(edge, sender)
                distances.set(edge, distance)
                for axis in range(3):
                    directions.set(edge * 3 + axis, direction[axis])
                for number, value in enumerate(harmonics.values(code, direction)):
                    values.set(edge * harmonics.dim + number, value)
                sums = edge_sums.at(edge * edge_slots)
                sums.clear(edge_slots)
                if repulsion is not None:
                    elements = arguments.indices("elements")
                    pair_elements = elements.get(atom), elements.get(sender)
                    repulsion.emit(code, space.weights, *pair_elements, distance, energy, sums)
                with code.when(distance.compare("<", nearest.get(space.task).narrow())):
                    nearest.set(space.task, distance.wide())
        kept.set(atom, count.get())


def emit_forces(space: Space, harmonics: Harmonics, tile: Tile, edge_slots: int) -> None:
    """Add the forces and the virial of the tile's edges, whose gradients are complete, to the sums of the task."""
    code, arguments = space.code, space.arguments
    starts, kept, senders = (arguments.indices(name) for name in ("starts", "kept", "kept_senders"))
    distances, directions, values = (arguments.reals(name) for name in ("distances", "directions", "harmonics"))
    edge_sums = arguments.reals("edge_sums")
    forces = arguments.wides("forces").at(space.task * arguments.count("atoms") * 3)
    virial = arguments.wides("virials").at(space.task * 9)
    with code.loop(tile.first, tile.first + tile.rows) as atom:
        first = starts.get(atom)
        zero = code.number(0.0)
        pulls = [code.variable(zero) for _ in range(3)]
        virials = [code.variable(zero) for _ in range(9)]
        with code.loop(first, first + kept.get(atom)) as edge:
            received = edge_sums.at(edge * edge_slots)
            gradient = harmonics.gradient(code, values.at(edge * harmonics.dim), received)
            distance, direction = distances.get(edge), directions.at(edge * 3)
            force = _vector_gradient(code, gradient, received.get(0), distance, direction)
            sender = senders.get(edge)
            for axis in range(3):
                pulls[axis].add(force[axis])
                forces.add(sender * 3 + axis, -force[axis].wide())
                for other in range(3):
                    virials[other * 3 + axis].add(direction.get(other) * distance * force[axis])
        for axis in range(3):
            forces.add(atom * 3 + axis, pulls[axis].get().wide())
        for place in range(9):
            virial.add(place, virials[place].get().wide())


def _vector_gradient(code: Code, gradient: list[Real], slope: Real, distance: Real, direction: Reals) -> list[Real]:
    """Gradient with respect to the edge's vector, from those with respect to its direction and its length."""
    unit = [direction.get(axis) for axis in range(3)]
    along = unit[0] * gradient[0] + unit[1] * gradient[1] + unit[2] * gradient[2]
    inverse = 1.0 / distance
    return [(gradient[axis] - unit[axis] * along) * inverse + unit[axis] * slope for axis in range(3)]
