"""What is timed of a model: forces, simulation steps and training steps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from mlip.benchmarks.timing import Step
from mlip.calculators import MLIPCalculator
from mlip.calculators.compiled import prepare
from mlip.calculators.loading import compile_where_possible
from mlip.data.graphs import build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.models import Potential
from mlip.training.config import TERMS
from mlip.training.losses import error_sums, weighted_loss

TIMESTEP, TEMPERATURE = 0.5, 300.0  # fs, K
# A simulation turns round after so many steps, before the molecules have flown apart.
STEPS_ONE_WAY = 25


def forces_step(calculator: MLIPCalculator, box: Atoms) -> Step:
    """Energy and forces of the model alone, its neighbours given."""
    structure = Structure.from_atoms(box)
    model = calculator.model
    # The calculator's own program has to keep its arrays for the simulation that is timed in turns with this.
    compiled = None if calculator.compiled is None else compile_where_possible(model)
    if compiled is None:
        graph = build_graph(structure, model.cutoff).to(model.device)
        return lambda: lambda: model(graph, forces=True)
    given = prepare(compiled, structure)
    return lambda: lambda: compiled.evaluate(given.positions, given.elements, given.pairs)


def ase_step(calculator: MLIPCalculator, box: Atoms) -> Step:
    """Atoms fly on at thermal speed, so that neighbour lists are built as often as in a simulation."""
    box.calc = calculator
    spread = np.sqrt(units.kB * TEMPERATURE / box.get_masses())[:, None]
    flight = TIMESTEP * units.fs * spread * np.random.default_rng(0).normal(size=(len(box), 3))
    moves = 0

    def prepare_step() -> Callable[[], Any]:
        nonlocal moves
        box.positions += flight if moves // STEPS_ONE_WAY % 2 == 0 else -flight
        moves += 1
        return box.get_forces

    return prepare_step


def training_step(potential: Potential, box: Atoms) -> Step:
    """A loss on energy and forces, and the gradients of all weights."""
    labelled = replace(Structure.from_atoms(box), energy=0.0, forces=np.zeros((len(box), 3)))
    batch = collate_graphs([build_graph(labelled, potential.cutoff)]).to(potential.device)
    wanted = [1.0 if term in ("energy", "forces") else 0.0 for term in TERMS]
    weights = torch.tensor(wanted, dtype=torch.float64, device=potential.device)

    def step() -> None:
        potential.zero_grad()
        sums = error_sums(potential(batch, forces=True), batch, "mse", 1.0)
        weighted_loss(sums.loss, sums.components, weights).backward()

    def prepare_step() -> Callable[[], Any]:
        potential.train().requires_grad_()
        return step

    return prepare_step
