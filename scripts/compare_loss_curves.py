"""Losses of the first steps of a training, with kernels and radial tables, and with the reference operations.

    python scripts/compare_loss_curves.py ../shared/data/acac/train_300K.xyz --steps 100 --dtype float64

Both start from the same weights and see the same batches. The model is the one of configs/acac_128.yaml.
"""

import argparse
import os
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Batch

from mlip.data.graphs import build_graph, collate_graphs
from mlip.data.reading import iterate_structures
from mlip.models import Potential, build_model
from mlip_kernels.wanted import only

MODEL = {
    "architecture": "mace",
    "elements": ["H", "C", "O"],
    "hidden_irreps": "128x0e+128x1o",
    "l_max": 3,
    "correlation": 3,
    "layers": 2,
    "cutoff": 5.0,
}
FRAMES_IN_BATCH = 5


def read_batches(path: Path, count: int) -> list[Batch]:
    """Batches of five frames, their energies relative to the mean."""
    frames = list(islice(iterate_structures(path), count * FRAMES_IN_BATCH))
    graphs = [build_graph(frame, 5.0) for frame in frames]
    batches = [collate_graphs(graphs[i : i + FRAMES_IN_BATCH]) for i in range(0, len(graphs), FRAMES_IN_BATCH)]
    mean = torch.cat([batch.energy for batch in batches]).mean()
    for batch in batches:
        batch.energy = batch.energy - mean
    return batches


def losses(model: Potential, batches: Iterator[Batch]) -> Iterator[float]:
    """Loss of each step of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
    for batch in batches:
        prediction = model(batch, forces=True)
        assert prediction.forces is not None
        atoms = torch.bincount(batch.batch)
        energy = (((prediction.energy - batch.energy) / atoms) ** 2).mean()
        loss = 10.0 * energy + 100.0 * ((prediction.forces - batch.forces) ** 2).mean()
        optimizer.zero_grad()
        with only("parameters"):
            loss.backward()
        optimizer.step()
        yield loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--radial-knots", type=int, default=256)
    arguments = parser.parse_args()
    batches = read_batches(arguments.frames, 20)
    curves = []
    for kernels in ("", "reference"):
        os.environ["MLIP_KERNELS"] = kernels
        model = build_model(MODEL, arguments.dtype).train()
        if not kernels:
            model.network.radial_knots = arguments.radial_knots
        curves.append(np.array(list(losses(model, islice(cycle(batches), arguments.steps)))))
    difference = np.abs(curves[0] / curves[1] - 1.0)
    for step in sorted({0, 9, 29, 59, arguments.steps - 1}):
        if step < arguments.steps:
            print(f"step {step + 1:4d}  loss {curves[0][step]:.6f}  relative difference {difference[step]:.1e}")
    print(f"largest relative difference in {arguments.steps} steps: {difference.max():.1e}")


if __name__ == "__main__":
    main()
