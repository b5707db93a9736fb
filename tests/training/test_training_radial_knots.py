"""Radial tables in training: the losses of the networks that they stand for, and no trace of them elsewhere."""

from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlip.data.graphs import build_graph, collate_graphs
from mlip.data.reading import iterate_structures
from mlip.models import Potential, build_model, load, save
from mlip.training.config import TrainingConfig
from mlip.training.module import TrainingModule
from mlip_kernels.channelwise_convolution import BlockedConvolution, KernelConvolution
from mlip_kernels.wanted import only

MODEL = {
    "elements": ["H", "C", "O"],
    "l_max": 1,
    "cutoff": 3.0,
    "layers": 2,
    "radial_hidden": [8],
    "seed": 1,
}
MODELS: list[dict[str, Any]] = [
    {"architecture": "mace", "hidden_irreps": "4x0e+4x1o", "correlation": 2, **MODEL},
    {"architecture": "nequip", "hidden_irreps": "4x0e+4x1o", **MODEL},
]


@pytest.fixture(scope="module")
def batches(repository: Path) -> list[Any]:
    """The first frames of the sample, two in a batch, with energies relative to the mean."""
    frames = list(islice(iterate_structures(repository / "data" / "sample_train.xyz"), 8))
    batches = [collate_graphs([build_graph(each, 3.0) for each in frames[i : i + 2]]) for i in range(0, 8, 2)]
    mean = torch.cat([batch.energy for batch in batches]).mean()
    for batch in batches:
        batch.energy = batch.energy - mean
    return batches


def losses(model: Potential, batches: list[Any], steps: int) -> list[float]:
    """Losses on energies and forces along a training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    found = []
    for batch in islice(cycle(batches), steps):
        prediction = model(batch, forces=True)
        assert prediction.forces is not None
        loss = (prediction.energy - batch.energy).square().mean() + (prediction.forces - batch.forces).square().mean()
        optimizer.zero_grad()
        with only("parameters"):
            loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("config", MODELS, ids=lambda config: str(config["architecture"]))
def test_losses_are_those_of_the_reference_operations(
    config: dict[str, Any], batches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLIP_KERNELS", "")
    tabulated = build_model(config, "float64").train()
    tabulated.network.radial_knots = 256
    assert tabulated.network.takes_knots
    assert isinstance(tabulated.network.layers[0].convolution.operation, KernelConvolution)
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    reference = build_model(config, "float64").train()
    assert isinstance(reference.network.layers[0].convolution.operation, BlockedConvolution)
    curves = [np.array(losses(model, batches, 12)) for model in (tabulated, reference)]
    assert curves[1][-1] < 0.9 * curves[1][0]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
    # Splines do differ from the networks: were they equal, no table would have been used.
    assert np.abs(curves[0] / curves[1] - 1.0).max() > 1e-12


def test_few_knots_show(batches: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIP_KERNELS", "")
    exact, coarse = (build_model(MODELS[0], "float64").train() for _ in range(2))
    coarse.network.radial_knots = 16
    (expected,), (actual,) = (losses(model, batches, 1) for model in (exact, coarse))
    assert 1e-6 < abs(actual / expected - 1.0) < 1e-1


def test_evaluation_and_files_know_no_tables(
    config: Callable[..., TrainingConfig], batches: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLIP_KERNELS", "")
    model = build_model(MODELS[0])
    expected = model.eval()(batches[0])
    TrainingModule(model, config(radial_knots=16), {})
    assert model.network.radial_knots == 16
    found = model.eval()(batches[0])
    assert torch.equal(found.energy, expected.energy)
    assert torch.equal(found.forces, expected.forces)

    save(model, tmp_path / "model.mlip", {})
    assert load(tmp_path / "model.mlip").network.radial_knots is None
