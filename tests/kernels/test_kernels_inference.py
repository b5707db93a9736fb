"""The inference program against its definition, on networks of random numbers and on atoms in every number."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from inference_networks import CUTOFF, crystal, one_layer, three_layers, two_layers
from numpy.typing import NDArray

from mlip_kernels.inference import reference
from mlip_kernels.inference.pairs import Evaluation, Pairs
from mlip_kernels.inference.program import InferenceProgram, _structure_hash, tile_order
from mlip_kernels.inference.spec import Network
from mlip_kernels.simd.code import RealType
from mlip_kernels.simd.target import host_target

# More than two tiles of atoms with one thread, and edges across the borders of a small box.
ATOMS, BOX = 55, 7.2
# Each takes seconds to compile.
PROGRAMS = [
    "two float64",
    "three float32",
    "one float64",
    pytest.param("two float32", marks=pytest.mark.slow),
    pytest.param("three float64", marks=pytest.mark.slow),
]
TOLERANCES: dict[RealType, float] = {"float32": 2e-5, "float64": 1e-11}


def built(network: Callable[[int], Network], real: RealType) -> InferenceProgram:
    return InferenceProgram(network(host_target().lanes(real)), real)


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Iterator[InferenceProgram]:
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    layers, real = request.param.split()
    yield built({"one": one_layer, "two": two_layers, "three": three_layers}[layers], real)
    torch.set_default_dtype(previous)


def respond(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Derivatives of an energy that further outputs make."""
    return outputs / np.sqrt(1 + np.square(outputs))


def compare(
    program: InferenceProgram, positions: NDArray[np.float64], elements: NDArray[np.int64], pairs: Pairs
) -> Evaluation:
    """Hold the program's results against those of the definition in float64."""
    expected = reference.evaluate(program.network, positions, elements, pairs, respond)
    result = program(positions, elements, pairs, respond)
    tolerance = TOLERANCES[program.real]
    for name in ("energies", "forces", "virial"):
        exact, computed = getattr(expected, name), getattr(result, name)
        assert exact.shape == computed.shape
        np.testing.assert_allclose(computed, exact, rtol=0.0, atol=tolerance * np.abs(exact).max(), err_msg=name)
    assert result.nearest == pytest.approx(expected.nearest, rel=1e-6)
    return result


def test_energies_forces_and_virial(program: InferenceProgram) -> None:
    result = compare(program, *crystal(ATOMS, 0, BOX))
    # Nothing is so small that it could be wrong unseen; the atom without neighbours has an energy and no force.
    assert np.abs(result.forces[1:]).max(1).min() > 1e-3
    assert np.abs(result.energies).min() > 1e-3
    assert np.abs(result.forces[0]).max() == 0.0
    np.testing.assert_allclose(result.forces.sum(0), 0.0, atol=1e-4 * np.abs(result.forces).max())


def test_forces_are_those_of_an_energy_that_further_outputs_make(program: InferenceProgram) -> None:
    if not program.network.further_outputs or program.real == "float32":
        pytest.skip("there are none, or differences are too coarse")
    positions, elements, pairs = crystal(12, 5, 5.0)
    found: list[NDArray[np.float64]] = []

    def keep(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        found.append(outputs)
        return respond(outputs)

    def energy(places: NDArray[np.float64]) -> float:
        """Of the network, and what `respond` is the derivative of."""
        found.clear()
        of_network = program(places, elements, pairs, keep)
        return float(of_network.energies.sum() + np.sqrt(1 + np.square(found[0])).sum())

    forces = program(positions, elements, pairs, respond).forces
    step = 1e-6
    direction = np.random.default_rng(0).normal(size=positions.shape)
    slope = (energy(positions + step * direction) - energy(positions - step * direction)) / (2 * step)
    assert slope == pytest.approx(-(forces * direction).sum(), rel=1e-6)


def test_without_a_response_further_outputs_have_no_part(program: InferenceProgram) -> None:
    given = crystal(12, 5, 5.0)
    expected, result = reference.evaluate(program.network, *given), program(*given)
    for name in ("energies", "forces"):
        exact = getattr(expected, name)
        atol = TOLERANCES[program.real] * np.abs(exact).max()
        np.testing.assert_allclose(getattr(result, name), exact, rtol=0.0, atol=atol)


@pytest.mark.parametrize("atoms", [1, 2, 3, 24, 25])
def test_any_number_of_atoms(program: InferenceProgram, atoms: int) -> None:
    compare(program, *crystal(atoms, atoms, 4.0 + 0.1 * atoms))


def test_no_pairs_at_all(program: InferenceProgram) -> None:
    positions, elements, _ = crystal(5, 0, BOX)
    pairs = Pairs(np.zeros(6, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
    expected = reference.evaluate(program.network, positions, elements, pairs)
    result = program(positions, elements, pairs)
    np.testing.assert_allclose(result.energies, expected.energies, rtol=TOLERANCES[program.real])
    assert not result.forces.any()
    assert not result.virial.any()
    assert result.nearest == np.inf


def test_new_positions_new_pairs_and_what_went_before(program: InferenceProgram) -> None:
    positions, elements, pairs = crystal(ATOMS, 0, BOX)
    first = program(positions, elements, pairs)
    moved = positions + np.random.default_rng(1).uniform(-0.05, 0.05, positions.shape)
    compare(program, moved, elements, pairs)
    compare(program, *crystal(7, 3, 4.5))
    again = program(positions, elements, pairs)
    for name in ("energies", "forces", "virial"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_pairs_beyond_the_cutoff_change_nothing(program: InferenceProgram) -> None:
    positions, elements, pairs = crystal(ATOMS, 0, BOX)
    receivers = np.repeat(np.arange(ATOMS), np.diff(pairs.starts))
    vectors = positions[pairs.senders] + pairs.offsets - positions[receivers]
    near = np.linalg.norm(vectors, axis=1) < CUTOFF
    assert 0 < near.sum() < len(near)
    kept = np.searchsorted(receivers[near], np.arange(ATOMS + 1)).astype(np.int64)
    fewer = Pairs(kept, pairs.senders[near], np.ascontiguousarray(pairs.offsets[near]))
    first, second = program(positions, elements, pairs), program(positions, elements, fewer)
    np.testing.assert_array_equal(first.energies, second.energies)
    np.testing.assert_array_equal(first.forces, second.forces)


def test_two_threads(program: InferenceProgram) -> None:
    given = crystal(ATOMS, 0, BOX)
    one = program(*given)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two, again = program(*given), program(*given)
    finally:
        torch.set_num_threads(before)
    # Energies of atoms are sums of one thread; forces add up what threads found.
    np.testing.assert_array_equal(two.energies, one.energies)
    size = np.abs(one.forces).max()
    np.testing.assert_allclose(two.forces, one.forces, atol=0.01 * TOLERANCES[program.real] * size)
    for name in ("energies", "forces", "virial"):
        np.testing.assert_array_equal(getattr(again, name), getattr(two, name))


def test_order_of_atoms_is_a_matter_of_speed_only(program: InferenceProgram) -> None:
    positions, elements, pairs = crystal(ATOMS, 0, BOX)
    order = tile_order(elements, 1)
    place = np.argsort(order)
    receivers = np.repeat(np.arange(ATOMS), np.diff(pairs.starts))
    sorting = np.argsort(place[receivers], kind="stable")
    starts = np.searchsorted(place[receivers][sorting], np.arange(ATOMS + 1)).astype(np.int64)
    moved = Pairs(starts, place[pairs.senders][sorting], np.ascontiguousarray(pairs.offsets[sorting]))
    first, second = program(positions, elements, pairs), program(positions[order], elements[order], moved)
    tolerance = TOLERANCES[program.real]
    np.testing.assert_allclose(second.energies, first.energies[order], atol=tolerance * np.abs(first.energies).max())
    np.testing.assert_allclose(second.forces, first.forces[order], atol=tolerance * np.abs(first.forces).max())


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("atoms", [1, 23, 24, 25, 100])
def test_tile_order_groups_elements(atoms: int, tasks: int) -> None:
    elements = np.random.default_rng(atoms).integers(0, 3, atoms)
    order = tile_order(elements, tasks)
    assert sorted(order.tolist()) == list(range(atoms))
    # In each tile, of at most 24 atoms, elements ascend: they fall no more often than there are borders of tiles.
    assert (np.diff(elements[order]) < 0).sum() < tasks * -(-atoms // (24 * tasks))
    assert np.abs(order - np.arange(atoms)).max() < 24


def test_weights_are_data_and_all_else_is_code(e3nn_in_double: None) -> None:
    network = two_layers(8)
    many_body, gated = network.layers
    name = _structure_hash(network)
    assert _structure_hash(two_layers(8)) == name
    weights = replace(many_body, table=1.5 * many_body.table, residual_constants=-many_body.residual_constants)
    assert _structure_hash(replace(network, scales=2.0 * network.scales, layers=(weights, gated))) == name

    first, *others = many_body.convolution.paths
    paths = (replace(first, coefficients=first.coefficients + 0.1), *others)
    coupling = replace(many_body, convolution=replace(many_body.convolution, paths=paths))
    term, *terms = many_body.product.table.terms
    products = replace(many_body.product.table, terms=(replace(term, coefficients=2.0 * term.coefficients), *terms))
    contraction = replace(many_body, product=replace(many_body.product, table=products))
    gate = replace(gated.product, activated=gated.product.activated[::-1])
    different = [
        replace(network, cutoff=0.9 * network.cutoff),
        replace(network, spacing=0.9 * network.spacing),
        replace(network, lifts=tuple(-lift for lift in network.lifts)),
        replace(network, features=network.features[:2]),
        replace(network, repulsion=None),
        replace(network, repulsion=replace(network.repulsion, envelope_power=6)),
        replace(network, layers=(coupling, gated)),
        replace(network, layers=(contraction, gated)),
        replace(network, layers=(replace(many_body, density=None), gated)),
        replace(network, layers=(many_body, replace(gated, product=gate))),
    ]
    names = {_structure_hash(each) for each in different}
    assert len(names | {name}) == len(different) + 1


def test_other_weights_run_by_the_same_program(program: InferenceProgram) -> None:
    network = program.network
    layers = tuple(replace(layer, table=1.5 * layer.table) for layer in network.layers)
    other = InferenceProgram(replace(network, scales=2.0 * network.scales, layers=layers), program.real)
    assert other._program._run is program._program._run
    compare(other, *crystal(8, 1, 4.5))


def test_phases_are_timed_by_name_and_add_up(program: InferenceProgram) -> None:
    last = len(program.network.layers)
    given = crystal(ATOMS, 0, BOX)
    before = program(*given)
    seconds = program.phase_seconds(*given, repeats=3)
    forward = [f"layer {number} forward" for number in range(1, last)]
    backward = [f"layer {number} backward" for number in range(last - 1, 0, -1)]
    outputs = [f"outputs of layer {last}"] if program.network.further_outputs else []
    assert list(seconds) == [*forward, *outputs, f"layer {last}", *backward]
    assert all(each >= 0.0 for each in seconds.values())
    assert seconds[f"layer {last}"] > 0.0
    np.testing.assert_array_equal(program(*given).forces, before.forces)
