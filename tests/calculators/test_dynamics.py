"""Simulations: statistics against ASE's own log of the same run, ensembles, and the end of an unphysical one."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from mlip import MLIPCalculator
from mlip.calculators.dynamics import run_dynamics
from mlip.calculators.relaxation import relax_structure
from mlip.errors import ConfigError, StructureError


@pytest.fixture
def crystal(potential) -> Atoms:
    """Argon a little off its lattice."""
    atoms = bulk("Ar", cubic=True, a=3.5)
    atoms.rattle(0.02, seed=1)
    atoms.calc = MLIPCalculator(potential, dtype="float64")
    return atoms


def test_summary_is_what_ase_computes(crystal):
    seen = []
    momenta = np.random.default_rng(2).normal(size=(4, 3)) * 5
    crystal.set_momenta(momenta)
    twin = crystal.copy()
    twin.calc = crystal.calc
    summary = run_dynamics(crystal, ensemble="nve", temperature=77, timestep=4.0, steps=50, observe=seen.append)
    temperatures, totals = [], []
    dynamics = VelocityVerlet(twin, 4.0 * units.fs)
    dynamics.attach(lambda: (temperatures.append(twin.get_temperature()), totals.append(twin.get_total_energy())))
    dynamics.run(50)
    np.testing.assert_allclose(crystal.positions, twin.positions, atol=1e-12)
    assert [step.number for step in seen] == list(range(51))
    assert seen[-1].time == pytest.approx(0.2)
    assert (summary.steps, summary.duration) == (50, pytest.approx(0.2))
    assert summary.mean_temperature == pytest.approx(np.mean(temperatures))
    slope = np.polyfit(np.arange(51) * 0.004, np.array(totals), 1)[0]
    assert summary.drift == pytest.approx(1e3 * slope / 4, rel=1e-6, abs=1e-9)
    assert summary.total_drift == pytest.approx(summary.drift * 0.2)
    assert summary.nanoseconds_per_day == pytest.approx(0.2e-3 * 86400 / summary.wall_time)


def test_new_velocities_have_the_temperature_and_no_momentum(crystal):
    seen = []
    start = crystal * (3, 3, 3)
    start.calc = crystal.calc
    run_dynamics(start, ensemble="nve", temperature=500, timestep=0.1, steps=1, observe=seen.append)
    assert seen[0].temperature == pytest.approx(500, rel=0.2)
    np.testing.assert_allclose(start.get_momenta().sum(axis=0), 0.0, atol=1e-10)


def test_thermostat_reaches_its_temperature(crystal):
    atoms = crystal * (2, 2, 2)
    atoms.calc = crystal.calc
    late = []
    run_dynamics(
        atoms,
        ensemble="nvt",
        temperature=200,
        timestep=5.0,
        steps=400,
        friction=0.05,
        observe=lambda step: late.append(step.temperature) if step.number > 100 else None,
    )
    assert np.mean(late) == pytest.approx(200, rel=0.1)


@pytest.mark.parametrize("temperature", [0.0, 300.0])
def test_lone_atom_stays_at_rest(potential, temperature):
    atoms = Atoms("Ar", calculator=MLIPCalculator(potential))
    summary = run_dynamics(atoms, ensemble="nve", temperature=temperature, timestep=1.0, steps=3)
    np.testing.assert_array_equal(atoms.positions, 0.0)
    assert summary.mean_temperature == 0.0
    assert summary.drift == 0.0


def test_blow_up_is_reported(crystal):
    with pytest.raises(StructureError, match="blew up at step"):
        run_dynamics(crystal, ensemble="nve", temperature=5e4, timestep=500.0, steps=50)


def test_wrong_numbers_are_named(crystal):
    for wrong in ({"steps": 0}, {"timestep": -1.0}, {"temperature": -5.0}, {"friction": -0.1}):
        settings = {"temperature": 300.0, "timestep": 1.0, "steps": 5, "friction": 0.01, **wrong}
        with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
            run_dynamics(crystal, ensemble="nvt", **settings)


def test_relaxation_finds_the_lattice(potential):
    from scipy.optimize import minimize_scalar

    calculator = MLIPCalculator(potential, dtype="float64")

    best = minimize_scalar(bulk_energy, args=(calculator,), bracket=(3.3, 3.4, 3.6), options={"xtol": 1e-4})
    atoms = bulk("Ar", a=best.x + 0.03)  # one atom: a few steps, of which the filter's matrix logarithms take long
    atoms.calc = calculator
    end = relax_structure(atoms, optimizer="bfgs", cell=True, fmax=2e-3, steps=50)
    assert end.converged
    assert end.energy == pytest.approx(best.fun / 4, abs=1e-4)
    assert atoms.get_volume() == pytest.approx(best.x**3 / 4, rel=1e-2)
    np.testing.assert_allclose(atoms.get_stress(), 0.0, atol=3e-4)


def bulk_energy(a: float, calculator: MLIPCalculator) -> float:
    """Energy of the cubic cell of argon, eV."""
    atoms = bulk("Ar", cubic=True, a=a)
    atoms.calc = calculator
    return atoms.get_potential_energy()


def test_relaxation_of_the_cell_needs_one(potential):
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [2.4, 0, 0]], calculator=MLIPCalculator(potential))
    with pytest.raises(ConfigError, match="cannot be relaxed"):
        relax_structure(atoms, cell=True)
