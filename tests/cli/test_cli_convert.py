"""`mlip convert`."""

import pytest

from mlip import load, save
from mlip.models import build_model


@pytest.fixture
def gaunt_model(tmp_path):
    config = {"architecture": "mace", "elements": ["H", "O"], "hidden_irreps": "4x0e+4x1o", "l_max": 1}
    path = tmp_path / "gaunt.mlip"
    save(build_model({**config, "tensor_product": {"backend": "spherical_grid"}}), path, {"data": "none", "epochs": 3})
    return path


def test_a_model_with_another_backend_is_written(run, gaunt_model, tmp_path):
    output = tmp_path / "fourier.mlip"
    result = run("convert", gaunt_model, "--backend", "gaunt_fourier", "-o", output)
    assert result.exit_code == 0, result.output
    assert "convolution (gaunt, per_degree): spherical_grid -> gaunt_fourier" in result.stdout
    assert "contraction (gaunt, per_degree): spherical_grid -> gaunt_fourier" in result.stdout
    converted = load(output)
    assert converted.config.tensor_product.contraction.backend == "gaunt_fourier"
    assert converted.provenance["data"] == "none"


def test_one_part_is_converted(run, gaunt_model, tmp_path):
    output = tmp_path / "part.mlip"
    result = run("convert", gaunt_model, "--backend", "clebsch_gordan", "--part", "convolution", "-o", output)
    assert "convolution (gaunt, per_degree): spherical_grid -> clebsch_gordan" in result.stdout
    assert "contraction (gaunt, per_degree): spherical_grid, unchanged" in result.stdout


def test_mistakes_are_one_sentence(fails, model_file, gaunt_model, tmp_path):
    output = tmp_path / "other.mlip"
    assert "none of the model's products" in fails("convert", model_file, "--backend", "spherical_grid", "-o", output)
    assert "did you mean 'gaunt_fourier'" in fails("convert", gaunt_model, "--backend", "fourier_gaunt", "-o", output)
    assert "is the input itself" in fails("convert", gaunt_model, "--backend", "gaunt_fourier", "-o", gaunt_model)
    assert "no model file" in fails("convert", tmp_path / "none.mlip", "--backend", "cp", "-o", output)
    assert not output.exists()
