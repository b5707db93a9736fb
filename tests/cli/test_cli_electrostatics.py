"""`mlip electrostatics plan`."""

import pytest
from ase import Atoms
from ase.build import fcc111, molecule


def test_plan_of_a_box(run):
    result = run("electrostatics", "plan", "--charges", 2000, "--box", "27,27,27", "--pbc", "abc", "--tolerance", 1e-4)
    assert result.exit_code == 0, result.output
    for word in ("chebyshev_tucker", "range separation", "ranks", "memory", "2,000", "a, b, c", "ms"):
        assert word in result.stdout


def test_plan_of_structures(run, tmp_path):
    slab = fcc111("Al", (3, 3, 4), vacuum=20.0)
    slab.pbc = [True, True, False]
    slab.info.clear()
    for name, atoms in (("water", molecule("H2O")), ("slab", slab), ("wire", Atoms("H2", [[0, 0, 0], [1, 0, 0]]))):
        atoms.write(tmp_path / f"{name}.xyz", format="extxyz")
    water = run("electrostatics", "plan", tmp_path / "water.xyz")
    assert "direct" in water.stdout
    assert "cutoff" not in water.stdout
    planned = run("electrostatics", "plan", tmp_path / "slab.xyz", "--cutoff", 6)
    assert "a, b" in planned.stdout
    assert "6 Å" in planned.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to plan for"),
        (("--charges", 10, "--box", "1,2"), "'1,2' is not three lengths"),
        (("--charges", 10, "--box", "5,5,5", "--pbc", "xy"), "directions are 'xy'"),
        (("--charges", 10, "--box", "0,5,5", "--pbc", "abc"), "'0,5,5' has a length that is not positive"),
        (("--charges", 10, "--box=-5,5,5"), "'-5,5,5' has a length that is not positive"),
        (("--charges", 10, "--box", "nan,5,5"), "'nan,5,5' holds what is no number"),
        (("--charges", 10, "--box", "1,0,0,1,0,0,0,0,1", "--pbc", "abc"), "singular"),
        (("--charges", 10, "--tolerance", 1), "tolerance is 1.0"),
        (("absent.xyz", "--charges", 10), "has its own charges"),
        (("absent.xyz", "--pbc", "ab"), "has its own charges"),
        (("absent.xyz",), "does not exist"),
        (("--charges", 10, "--box", "9,9,9", "--pbc", "a", "--method", "direct"), "'direct' is for open structures"),
        (("--charges", 100000, "--box", "900,900,900", "--pbc", "abc", "--memory", 0.01), "GiB"),
    ],
)
def test_mistakes(fails, arguments, message):
    assert message in fails("electrostatics", "plan", *arguments)
