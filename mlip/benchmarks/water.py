"""Boxes of water that are always the same, to time models on."""

import math

import numpy as np
from ase import Atoms

DENSITY = 0.1  # atoms/Å³, that of water
_BOND, _ANGLE = 0.96, math.radians(104.5)  # Å


def water_box(atoms: int, elements: list[str], seed: int = 0) -> Atoms:
    """A periodic cubic box of water molecules in random orientations on a grid, at the density of water.

    Args:
        atoms: How many are wanted; the box has the next larger multiple of three.
        elements: What the model knows. Where hydrogen or oxygen is not among them, the first or the last takes its
            place: times depend on the neighbours, not on the chemistry.
        seed: Of the orientations.
    """
    molecules = -(-atoms // 3)
    light = "H" if "H" in elements else elements[0]
    heavy = "O" if "O" in elements else elements[-1]
    rng = np.random.default_rng(seed)
    length = (3 * molecules / DENSITY) ** (1 / 3)
    side = math.ceil(molecules ** (1 / 3) - 1e-9)
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chosen = np.sort(rng.permutation(len(sites))[:molecules])
    centres = (sites[chosen] + 0.5) * length / side
    half = _ANGLE / 2.0
    molecule = _BOND * np.array([[0, 0, 0], [math.sin(half), math.cos(half), 0], [-math.sin(half), math.cos(half), 0]])
    rotations = np.linalg.qr(rng.normal(size=(molecules, 3, 3)))[0]
    positions = centres[:, None] + molecule @ rotations
    return Atoms(
        symbols=[heavy, light, light] * molecules, positions=positions.reshape(-1, 3), cell=[length] * 3, pbc=True
    )
