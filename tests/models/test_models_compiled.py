"""Compiled potentials against the modules that they are compiled from, and against their own energies."""

import copy
import os
import pickle
import platform
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import CUTOFF, ELEMENTS, batch, potential, random_config, random_structure

from mlip.data.graphs import build_graph
from mlip.data.structures import Structure
from mlip.errors import ConfigError, UnknownElementError
from mlip.models import Potential, Prediction, build_model
from mlip.models.compiled import CompiledPotential, _probe
from mlip_kernels.simd.cache import cache_folder

PER_ELEMENT = {
    "scale": {"H": 0.8, "C": 1.3, "O": 1.1, "Si": 0.6},
    "shift": {"H": 0.1, "C": -0.2, "O": 0.3, "Si": -0.4},
    "reference_energies": {"H": -13.6, "C": -1029.0, "O": -2043.0, "Si": -7875.0},
}
# Channels are no multiples of a vector, and differ between irreps where the architecture lets them.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mace residual": ("mace", {"hidden_irreps": "6x0e+6x1o", "zbl": True, "zbl_form": "mace", **PER_ELEMENT}),
    "mace mixing": (
        "mace",
        {"layers": 3, "l_max": 1, "correlation": 2, "interaction": "density_residual", "first_interaction": "mixing"},
    ),
    "mace one layer": ("mace", {"layers": 1, "l_max": 1, "interaction": "density_mixing", "zbl": True}),
    "nequip parity": (
        "nequip",
        {"hidden_irreps": "9x0e+2x0o+3x1o+2x1e", "l_max": 1, "layers": 2, "zbl": True, **PER_ELEMENT},
    ),
    "nequip rotations": (
        "nequip",
        {
            "hidden_irreps": "5x0e+3x1e+2x2e", "symmetry": "SO3", "solid_harmonics": True,
            "self_connection": "shared", "cutoff_onset": 2.0,
        },
    ),
}  # fmt: skip
# Largest error of forces that the radial tables may make, eV/Å. The XPLOR cutoff is not smooth enough for a finer one.
TOLERANCES = dict.fromkeys(CASES, 1e-7) | {"nequip rotations": 1e-5}


@cache
def compiled(name: str) -> tuple[Potential, CompiledPotential]:
    architecture, changes = CASES[name]
    model = potential(architecture, **changes)
    return model, model.compile_for_inference(TOLERANCES[name])


def ordinary(structure: Structure) -> Structure:
    """The same with room for its atoms: at 0.9 Å radial functions change faster than tables for bonds can follow."""
    return replace(structure, positions=1.5 * structure.positions, cell=1.5 * structure.cell)


@pytest.fixture(params=CASES)
def models(request: pytest.FixtureRequest) -> tuple[Potential, CompiledPotential]:
    return compiled(request.param)


def single(number: int) -> Structure:
    """One atom without neighbours."""
    return Structure(np.array([number]), np.array([[0.3, -2.0, 1.0]]), np.zeros((3, 3)), np.zeros(3, dtype=bool))


def with_distant_atom(structure: Structure) -> Structure:
    """The same with an atom that sees no other."""
    positions = np.concatenate([[[50.0, 0.0, 0.0]], structure.positions])
    return replace(structure, numbers=np.concatenate([[8], structure.numbers]), positions=positions)


def compare(
    model: Potential, program: CompiledPotential, structures: list[Structure], tolerance: float
) -> tuple[Prediction, Prediction]:
    """Hold energies, forces and stresses of a batch against those of the modules."""
    graph = batch(*structures, cutoff=model.cutoff)
    expected, computed = model(graph, stress=True), program(graph, stress=True)
    largest = max(1.0, float(expected.forces.detach().abs().max()))
    for name in Prediction._fields[:4]:
        exact, value = getattr(expected, name).detach().numpy(), getattr(computed, name).numpy()
        assert value.dtype == np.float64
        np.testing.assert_allclose(value, exact, rtol=1e-13, atol=tolerance * largest, err_msg=name)
    return expected, computed


def test_energies_forces_and_stresses_of_a_batch(models: tuple[Potential, CompiledPotential]) -> None:
    structures = [
        ordinary(random_structure(0, 30)),
        ordinary(random_structure(1, 9, pbc=True)),
        single(6),
        with_distant_atom(ordinary(random_structure(2, 5))),
        ordinary(random_structure(3, 8, pbc=(True, False, True))),
        ordinary(random_structure(4, 2)),
    ]
    expected, computed = compare(*models, structures, 10.0 * models[1].force_error)
    assert float(expected.forces.abs().max()) > 0.1
    assert computed.stress is not None
    assert float(computed.stress[1].abs().max()) > 1e-4
    assert not computed.stress[0].any()


def test_single_atoms_have_the_energy_of_the_model(models: tuple[Potential, CompiledPotential]) -> None:
    for number in (1, 6, 8, 14):
        _, computed = compare(*models, [single(number)], 1e-12)
        assert computed.forces is not None
        assert not computed.forces.any()


def test_only_what_is_asked_for_is_given() -> None:
    _, program = compiled("mace one layer")
    graph = batch(random_structure(1, 9, pbc=True))
    both = program(graph, stress=True)
    energies = program(graph, forces=False)
    assert energies.forces is None
    assert energies.stress is None
    assert torch.equal(energies.energies, both.energies)
    without_stress = program(graph)
    assert without_stress.stress is None
    assert torch.equal(without_stress.forces, both.forces)


# Derivatives of the compiled energy itself, whatever the tables' error.


def smooth_structure(atoms: int, pbc: bool, step: float) -> Structure:
    """A structure without pairs that a step would carry across the cutoff."""
    for seed in range(100):
        structure = random_structure(seed, atoms, pbc)
        graph = build_graph(structure, CUTOFF + 0.2)
        senders, receivers = graph.edge_index
        vectors = graph.positions[senders] + graph.edge_offsets - graph.positions[receivers]
        if (torch.linalg.vector_norm(vectors, dim=1) - CUTOFF).abs().min() > 10.0 * step:
            return structure
    raise AssertionError("every structure has a pair at the cutoff")


def central_difference(program: CompiledPotential, below: Structure, above: Structure, step: float) -> float:
    lower, upper = (float(program(build_graph(each, CUTOFF)).energy) for each in (below, above))
    return (upper - lower) / (2.0 * step)


def test_forces_are_derivatives_of_the_energy(models: tuple[Potential, CompiledPotential]) -> None:
    _, program = models
    step = 1e-4
    structure = smooth_structure(6, True, step)
    forces = program(build_graph(structure, CUTOFF)).forces
    assert forces is not None
    for place in range(forces.numel()):
        moved = []
        for size in (-step, step):
            positions = structure.positions.copy()
            positions.flat[place] += size
            moved.append(replace(structure, positions=positions))
        slope = central_difference(program, *moved, step)
        assert float(forces.flatten()[place]) == pytest.approx(-slope, abs=2e-6 * max(1.0, float(forces.abs().max())))


def test_stress_is_the_derivative_by_strain(models: tuple[Potential, CompiledPotential]) -> None:
    _, program = models
    step = 2e-5
    structure = smooth_structure(6, True, 10.0 * step)
    stress = program(build_graph(structure, CUTOFF), stress=True).stress
    assert stress is not None
    volume = abs(np.linalg.det(structure.cell))
    for row in range(3):
        for column in range(row + 1):
            strained = []
            for size in (-step, step):
                deformation = np.eye(3)
                deformation[row, column] += 0.5 * size
                deformation[column, row] += 0.5 * size
                positions, cell = structure.positions @ deformation, structure.cell @ deformation
                strained.append(replace(structure, positions=positions, cell=cell))
            slope = central_difference(program, *strained, step) / volume
            limit = 2e-6 * max(1.0, float(stress.abs().max()))
            assert float(stress[0, row, column]) == pytest.approx(slope, abs=limit)


# Tables


def error_and_size(model: Potential, program: CompiledPotential, structure: Structure) -> tuple[float, float]:
    """Largest error of a force, and the largest force, eV/Å."""
    graph = batch(structure)
    exact = model(graph).forces
    return float((program(graph).forces - exact).abs().max()), float(exact.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_measured_error_is_that_of_the_program_and_of_other_structures(name: str) -> None:
    model, program = compiled(name)
    error, size = error_and_size(model, program, _probe(ELEMENTS))
    assert size < 10.0
    assert error == pytest.approx(program.force_error, rel=1e-3)
    assert 2.0 * error <= TOLERANCES[name]
    # Errors grow with forces, which these models, untrained, have of any size.
    others = [error_and_size(model, program, ordinary(random_structure(seed, 30))) for seed in range(3)]
    assert error / size / 30.0 < max(wrong / largest for wrong, largest in others) < 30.0 * error / size


def test_measurements_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, program = compiled("mace one layer")

    def refuse(*_: object) -> float:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr("mlip.models.compiled._Measurements._measured", refuse)
        again = model.compile_for_inference(TOLERANCES["mace one layer"])
    assert (again.intervals, again.force_error) == (program.intervals, program.force_error)
    # What is damaged is measured anew.
    for path in cache_folder().glob("radial_tables_*.json"):
        path.write_text("{")
    again = model.compile_for_inference(TOLERANCES["mace one layer"])
    # By rounding the same as what an earlier process may have measured on another version's operations.
    assert (again.intervals, again.force_error) == (program.intervals, pytest.approx(program.force_error, rel=1e-6))


def test_a_compiled_potential_says_what_it_is() -> None:
    model, program = compiled("mace residual")
    assert program.config is model.config
    assert program.elements == ELEMENTS
    assert program.cutoff == CUTOFF
    assert program.dtype == torch.float64
    assert program.device == torch.device("cpu")


def test_single_precision_agrees_with_double() -> None:
    architecture, changes = CASES["mace residual"]
    exact = potential(architecture, **changes)
    program = potential(architecture, "float32", **changes).compile_for_inference()
    assert program.dtype == torch.float32
    compare(exact, program, [ordinary(random_structure(0, 30)), ordinary(random_structure(1, 9, pbc=True))], 2e-5)


def test_results_are_the_same_bits_and_follow_the_threads() -> None:
    _, program = compiled("nequip parity")
    graph = batch(random_structure(0, 60))
    one, again = program(graph), program(graph)
    assert torch.equal(one.forces, again.forces)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two, again = program(graph), program(graph)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(two.forces, again.forces)
    assert torch.equal(two.energies, one.energies)
    torch.testing.assert_close(two.forces, one.forces, rtol=0.0, atol=1e-12 * float(one.forces.abs().max()))


# What is refused


@pytest.mark.parametrize("architecture", ["mace", "nequip"])
def test_other_tensor_products_are_refused(architecture: str) -> None:
    model = potential(architecture, hidden_irreps="4x0e+4x1o", tensor_product={"backend": "spherical_grid"})
    with pytest.raises(ConfigError, match="have other weights than 'per_path', which are not compiled: evaluate it"):
        model.compile_for_inference()


def test_contractions_alone_of_another_kind_are_refused() -> None:
    model = potential("mace", tensor_product={"contraction": {"backend": "spherical_grid"}})
    with pytest.raises(ConfigError, match="'per_path'"):
        model.compile_for_inference()


def test_radial_functions_of_pairs_of_elements_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"depend on the elements of a pair .'distance_transform'., which is not"):
        potential("mace", distance_transform="agnesi").compile_for_inference()


def test_nothing_is_compiled_where_kernels_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    with pytest.raises(ConfigError, match="numba, which is not installed or switched off by MLIP_KERNELS"):
        potential("mace").compile_for_inference()


def test_models_on_other_devices_are_refused() -> None:
    model = potential("mace")
    model.scale = model.scale.to("meta")
    with pytest.raises(ConfigError, match="on the device 'meta' and programs are compiled for the CPU: move it there"):
        model.compile_for_inference()


def test_a_tolerance_that_no_table_keeps_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"forces are still wrong by .* eV/Å, more than the 1.0e-20 allowed: allow"):
        compiled("mace one layer")[0].compile_for_inference(1e-20)


def test_unknown_elements_are_refused() -> None:
    _, program = compiled("mace one layer")
    with pytest.raises(UnknownElementError, match=r"the structure holds He, Ne, .* it knows H, C, O, Si"):
        program.element_indices(np.array([1, 2, 10]))


# Long


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16))
def test_random_models(seed: int) -> None:
    model = build_model(random_config(seed), "float64").eval()
    program = model.compile_for_inference(1e-4)
    structures = [ordinary(random_structure(seed, 20)), ordinary(random_structure(seed, 7, pbc=True)), single(1)]
    compare(model, program, structures, max(1e-9, 30.0 * program.force_error))


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the other processor is of the x86-64 family")
def test_an_older_processor_computes_the_same(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import torch; torch.set_num_threads(1)\n"
        "from test_models_compiled import batch, compiled, random_structure\n"
        "from mlip_kernels.simd.target import host_target; assert host_target().vector_bytes == 32\n"
        "graph = batch(random_structure(0, 30))\n"
        "torch.save([compiled(name)[1](graph).forces for name in sys.argv[3:]], sys.argv[2])"
    )
    names = ["mace residual", "nequip rotations"]
    arguments = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "forces.pt"), *names]
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64-v3", "OMP_NUM_THREADS": "1"}
    subprocess.run(arguments, env=environment, check=True)
    graph = batch(random_structure(0, 30))
    for name, other in zip(names, torch.load(tmp_path / "forces.pt", weights_only=True), strict=True):
        own = compiled(name)[1](graph).forces
        torch.testing.assert_close(other, own, rtol=0.0, atol=1e-12 * float(own.abs().max()))


def test_copies_of_a_compiled_potential_compute_the_same() -> None:
    model = build_model({"architecture": "mace", "elements": ["H"], "hidden_irreps": "16x0e", "l_max": 1, "seed": 1})
    compiled = model.compile_for_inference()
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.9]])
    graph = build_graph(Structure(np.array([1, 1]), positions, np.zeros((3, 3)), np.zeros(3, bool)), model.cutoff)
    expected = compiled(graph).forces
    assert expected is not None
    for other in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        for potential_ in (other, compiled):
            found = potential_(graph).forces
            assert found is not None
            assert torch.equal(found, expected)
