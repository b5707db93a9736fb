"""`mlip import`."""

import lzma

import pytest
import torch

from mlip import load
from mlip.models import read_header


@pytest.fixture
def checkpoint(repository, tmp_path):
    path = tmp_path / "small.model"
    path.write_bytes(lzma.decompress((repository / "tests/interop/data/mace_repulsion.model.xz").read_bytes()))
    return path


@pytest.mark.parametrize("elements", [["--elements", "H", "C", "O"], ["--elements", "H,C,O"], ["--elements", "O C H"]])
def test_a_checkpoint_becomes_a_model_file(run, checkpoint, tmp_path, elements):
    output = tmp_path / "small.mlip"
    result = run("import", checkpoint, *elements, "-o", output, "--head", "dear")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:3] == [
        "From mace-torch ScaleShiftMACE, dear",
        "architecture: mace, 2 layers, hidden irreps 4x0e",
        "elements: 3 (H, C, O)",
    ]
    model = load(output)
    assert model.elements == ["H", "C", "O"]
    assert f"parameters: {sum(each.numel() for each in model.parameters())}" in result.stdout
    assert "cutoff: 4.5 Å" in result.stdout
    assert read_header(output)["provenance"] == {
        "package": "mace-torch ScaleShiftMACE",
        "head": "dear",
        "checkpoint": "small.model",
    }
    assert run("info", output).exit_code == 0


def test_mistakes_end_with_one_sentence(fails, checkpoint, tmp_path):
    output = tmp_path / "small.mlip"
    assert "choose one, for example --head cheap" in fails("import", checkpoint, "-o", output)
    assert "does not know the element 'Cu'" in fails("import", checkpoint, "-o", output, "--elements", "Cu", "H")
    assert "there is no checkpoint" in fails("import", tmp_path / "none.model", "-o", output)
    assert "is the input itself" in fails("import", checkpoint, "-o", checkpoint)
    assert not output.exists()


def test_a_hostile_checkpoint_only_raises(fails, tmp_path):
    class Hostile:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path / 'mark'}",)

    path = tmp_path / "hostile.model"
    torch.save({"model": Hostile()}, path)
    assert "refers to 'posix.system'" in fails("import", path, "-o", tmp_path / "model.mlip")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["hostile.model"]
