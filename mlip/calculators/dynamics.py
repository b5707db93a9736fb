"""Molecular dynamics through ASE, with what one wants to know of a run: temperature, energy drift, speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from mlip.errors import ConfigError, StructureError

Ensemble = Literal["nve", "nvt"]

# No chemistry is left at this temperature, only a time step or a model that failed.
_BLOW_UP_TEMPERATURE = 1e5  # K


@dataclass(frozen=True)
class Step:
    """A moment of a simulation."""

    number: int
    time: float  # ps
    temperature: float  # K
    energy: float  # eV, kinetic and potential


@dataclass
class Summary:
    """A simulation as a whole.

    The drift is the slope of a straight line through the total energy of all steps, so that the bounded oscillation
    of the integrator does not count.
    """

    steps: int
    duration: float  # ps
    mean_temperature: float  # K
    drift: float  # meV/atom/ps
    wall_time: float  # s

    @property
    def total_drift(self) -> float:
        """Drift over the whole run, meV/atom."""
        return self.drift * self.duration

    @property
    def nanoseconds_per_day(self) -> float:
        """Speed, ns of simulated time in a day."""
        return self.duration * 1e-3 * 86400 / self.wall_time


def run_dynamics(
    atoms: Atoms,
    *,
    ensemble: Ensemble,
    temperature: float,
    timestep: float,
    steps: int,
    friction: float = 0.01,
    seed: int = 0,
    observe: Callable[[Step], None] = lambda step: None,
) -> Summary:
    """Simulate `atoms`, which carry their calculator, and leave them at the end of the run.

    Args:
        ensemble: "nve" (velocity Verlet) or "nvt" (Langevin).
        temperature: K; of the initial velocities, which are drawn from the Maxwell-Boltzmann distribution without a
            total momentum unless the atoms have velocities, and of the Langevin thermostat.
        timestep: fs.
        friction: 1/fs, of the Langevin thermostat.
        seed: Of the initial velocities and the thermostat's noise.
        observe: Called at the start and after each step.

    Raises:
        ConfigError: a time step or a number of steps that is not positive, a negative temperature or friction.
        StructureError: the simulation blew up.
    """
    if not (timestep > 0 and steps > 0 and temperature >= 0 and friction >= 0):
        raise ConfigError(
            f"cannot simulate {steps} steps of {timestep} fs at {temperature} K with a friction of {friction}/fs; "
            "time step and number of steps have to be positive, temperature and friction not negative"
        )
    generator = np.random.default_rng(seed)
    if not np.any(atoms.get_momenta()):
        _draw_momenta(atoms, temperature, generator)
    simulation = _integrator(atoms, ensemble, temperature, timestep, friction, generator)
    statistics = _Statistics()
    start = time.perf_counter()
    # Numbers that overflow are a blow-up, which is reported as such.
    with np.errstate(all="ignore"):
        try:
            for _ in simulation.irun(steps):
                step = _observe(simulation)
                statistics.add(step)
                observe(step)
        except StructureError as error:
            if statistics.count == 0:
                raise
            raise StructureError(
                f"the simulation blew up at step {simulation.nsteps + 1} ({error}); relax the structure first, take a "
                "smaller time step, or train the model on such structures"
            ) from error
    return statistics.summary(len(atoms), steps, time.perf_counter() - start)


def _draw_momenta(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Momenta of the Maxwell-Boltzmann distribution, without the one of the centre of mass.

    They are scaled up so that the temperature, which ASE counts over 3N degrees of freedom, is on average the one asked
    for.
    """
    masses = atoms.get_masses()[:, None]
    momenta = np.sqrt(masses * units.kB * temperature) * rng.standard_normal((len(atoms), 3))
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
    if len(atoms) > 1:
        momenta *= np.sqrt(len(atoms) / (len(atoms) - 1))
    atoms.set_momenta(momenta)


def _integrator(
    atoms: Atoms, ensemble: Ensemble, temperature: float, timestep: float, friction: float, rng: np.random.Generator
) -> MolecularDynamics:
    if ensemble == "nve":
        return VelocityVerlet(atoms, timestep * units.fs)
    # With `fixcm` the momenta would not be distributed as they should.
    return Langevin(
        atoms, timestep * units.fs, temperature_K=temperature, friction=friction / units.fs, fixcm=False, rng=rng
    )


def _observe(simulation: MolecularDynamics) -> Step:
    atoms, number = simulation.atoms, simulation.nsteps
    temperature = float(atoms.get_temperature())
    energy = float(atoms.get_potential_energy() + atoms.get_kinetic_energy())
    if not (temperature < _BLOW_UP_TEMPERATURE and np.isfinite(energy)):
        raise StructureError(f"temperature {temperature:.3g} K, total energy {energy:.3g} eV")
    return Step(number, simulation.get_time() / (1000 * units.fs), temperature, energy)


class _Statistics:
    """Sums from which the mean temperature and the straight line through the energy follow, whatever the length."""

    def __init__(self) -> None:
        self.first: Step | None = None
        self.last_time = self.temperature = 0.0
        self.count = 0
        self.moments = np.zeros(4)  # t, t², E, t·E

    def add(self, step: Step) -> None:
        if self.first is None:
            self.first = step
        energy = step.energy - self.first.energy
        self.count += 1
        self.last_time = step.time
        self.temperature += step.temperature
        self.moments += (step.time, step.time**2, energy, step.time * energy)

    def summary(self, atom_count: int, steps: int, wall_time: float) -> Summary:
        t, tt, e, te = self.moments / self.count
        slope = (te - t * e) / (tt - t * t)
        return Summary(
            steps=steps,
            duration=self.last_time,
            mean_temperature=self.temperature / self.count,
            drift=1e3 * slope / atom_count,
            wall_time=wall_time,
        )
