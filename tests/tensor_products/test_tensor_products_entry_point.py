"""A backend installed beside the package, as the documentation shows it, in an interpreter of its own."""

import os
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

TEST_OF_THE_REGISTRY = """
import pytest
import torch

from mlip.errors import ConfigError
from mlip.tensor_products import TensorProduct, backends

IRREPS = ("2x0e+2x1o", "0e+1o", "2x0e+2x1o")


def test_it_is_listed_beside_ours():
    assert backends()["outside"] == "outside_backend:Outside"
    assert {"clebsch_gordan", "cp", "gaunt_fourier", "spherical_grid", "matrix"} < set(backends())
    assert backends()["cp"].startswith("mlip.")


def test_it_computes():
    outside, ours = (TensorProduct(*IRREPS, backend=name, weights="per_degree") for name in ("outside", "cp_of_ours"))
    x, y, weight = torch.randn(5, 8), torch.randn(5, 4), torch.randn(outside.weight_numel)
    torch.testing.assert_close(outside(x, y, weight), ours(x, y, weight))


@pytest.mark.parametrize(("name", "reason"), [("absent", "No module named 'absent_module'"), ("blank", "'Nothing'")])
def test_a_broken_one_is_named_when_it_is_asked_for(name, reason):
    with pytest.raises(ConfigError, match=f"the backend '{name}' cannot be loaded from .*{reason}"):
        TensorProduct(*IRREPS, backend=name, weights="none")


def test_a_near_miss_is_told():
    with pytest.raises(ConfigError, match="did you mean 'outside'"):
        TensorProduct(*IRREPS, backend="outsid")
""".replace("cp_of_ours", "clebsch_gordan")


@pytest.fixture
def blocks(repository: Path) -> dict[str, list[str]]:
    """Code blocks of the documentation by language."""
    text = (repository / "docs" / "tensor_products.md").read_text()
    found: dict[str, list[str]] = {}
    for language, block in re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL):
        found.setdefault(language, []).append(block)
    return found


def install(folder: Path, name: str, version: str, points: dict[str, str]) -> None:
    """What an installer leaves behind of a distribution: metadata and entry points."""
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (information / "entry_points.txt").write_text("\n".join(["[mlip.tensor_product_backends]", *lines, ""]))


def test_the_documented_backend_is_found_and_passes_the_suite(tmp_path: Path, blocks: dict[str, list[str]]) -> None:
    module, test = blocks["python"]
    (project,) = blocks["toml"]
    described = tomllib.loads(project)["project"]
    site = tmp_path / "site"
    site.mkdir()
    (site / "outside_backend.py").write_text(module)
    install(site, described["name"], described["version"], described["entry-points"]["mlip.tensor_product_backends"])
    install(site, "broken", "1", {"absent": "absent_module:Absent", "blank": "outside_backend:Nothing"})
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_outside.py").write_text(test)
    (tests / "test_registry.py").write_text(TEST_OF_THE_REGISTRY)

    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--junitxml=report.xml", "."],
        cwd=tests,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cases = [case.get("name", "") for case in ElementTree.parse(tests / "report.xml").iter("testcase")]
    names = {name.partition("[")[0] for name in cases}
    assert {"test_it_is_listed_beside_ours", "test_values_follow_the_definition", "test_second_derivatives"} <= names
    # Both couplings of the backend and all its weight structures went through.
    for case in ("clebsch_gordan-per_degree-elementwise", "clebsch_gordan-shared-channelwise", "gaunt-per_degree"):
        assert any(f"[{case}" in name for name in cases)
