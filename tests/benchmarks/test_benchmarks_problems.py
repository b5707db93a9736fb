"""The problems: their irreps, path counts and operands."""

import pytest
import torch

from mlip.benchmarks.problems import SETTINGS, make_operands, make_problem, parse_degrees, parse_names
from mlip.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "coupling", "counts"),
    [
        # All (l1, l2, l3) that satisfy the triangle inequality, up to the degrees of the setting.
        ("mimo", "clebsch_gordan", [6, 19, 44, 85]),
        ("mimo", "gaunt", [5, 14, 30, 55]),
        ("mimo", "gaunt+bracket", [6, 19, 44, 85]),
        ("simo", "clebsch_gordan", [3, 5, 7, 9]),
        ("simo", "gaunt", [2, 3, 4, 5]),
        ("siso", "clebsch_gordan", [1, 1, 1, 1]),
        # Parities (-1)^l leave the even sums of degrees, whatever the coupling.
        ("network", "clebsch_gordan", [4, 11, 23, 42]),
        ("network", "gaunt", [4, 11, 23, 42]),
    ],
)
def test_path_counts(setting, coupling, counts):
    assert [len(make_problem(setting, degree, coupling=coupling).spec.paths) for degree in (1, 2, 3, 4)] == counts


def test_irreps():
    def irreps(setting, **options):
        return [str(each) for each in make_problem(setting, 2, channels=3, **options).irreps]

    assert irreps("siso") == ["3x2e", "3x2e", "3x2e"]
    assert irreps("simo") == ["3x2e", "3x2e", "3x0e+3x1e+3x2e+3x3e+3x4e"]
    assert irreps("simo", coupling="gaunt") == ["3x2e", "3x2e", "3x0e+3x2e+3x4e"]
    assert irreps("mimo") == ["3x0e+3x1e+3x2e", "3x0e+3x1e+3x2e", "3x0e+3x1e+3x2e+3x3e+3x4e"]
    assert irreps("mimo", mode="channelwise")[1] == "1x0e+1x1e+1x2e"
    assert irreps("network") == ["3x0e+3x1o+3x2e", "1x0e+1x1o+1x2e", "3x0e+3x1o+3x2e"]


def test_what_is_missing_is_said():
    assert make_problem("mimo", 2).restriction == ""
    assert make_problem("network", 2, coupling="gaunt").restriction == ""
    assert make_problem("mimo", 2, coupling="gaunt").restriction == "even paths only, 14 of 19 paths"
    told = make_problem("simo", 2, coupling="gaunt").restriction
    assert told == "even paths only, 3 of 5 paths, 2 of 5 outputs missing"
    assert make_problem("mimo", 2, coupling="bracket").restriction.startswith("odd paths only, 5 of 19 paths")
    # Products of spin matrices vanish for a few triples, here for some of paths that are all even anyway.
    assert make_problem("network", 10, coupling="matrix").restriction == "378 of 381 paths"


def test_odd_degrees_have_no_gaunt_path_to_themselves():
    assert len(make_problem("siso", 2, coupling="gaunt").spec.paths) == 1
    with pytest.raises(ConfigError, match="'gaunt' has no path in the setting siso at degree 3"):
        _ = make_problem("siso", 3, coupling="gaunt").spec


@pytest.mark.parametrize(("options", "fact"), [({"channels": 0}, "channels is 0"), ({"batch": -1}, "batch is -1")])
def test_numbers_out_of_range(options, fact):
    with pytest.raises(ConfigError, match=fact):
        make_problem("mimo", 1, **options)


def test_operands_are_the_same_every_time():
    problem = make_problem("network", 2, weights="per_path", channels=3, batch=5)
    first, second = (make_operands(problem, torch.float64, torch.device("cpu")) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert [list(each.shape) for each in first] == [[5, 27], [5, 9], [5, 33], [5, 27]]
    assert all(torch.equal(few, all_[:2]) for few, all_ in zip(first.rows(2), first, strict=True))
    unweighted = make_operands(make_problem("network", 2), torch.float32, torch.device("cpu"))
    assert unweighted.weight is None
    assert len(unweighted.arguments) == 2


def test_degrees():
    assert parse_degrees("1-4") == [1, 2, 3, 4]
    assert parse_degrees("1, 2,5") == [1, 2, 5]
    assert parse_degrees("10,2-3,3") == [2, 3, 10]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("0", "hold 0"),
        ("9-11", "hold 11"),
        ("", "are ''"),
        ("a", "are 'a'"),
        ("1-", "are '1-'"),
        ("4-2", "empty range"),
    ],
)
def test_wrong_degrees(text, fact):
    with pytest.raises(ConfigError, match=fact):
        parse_degrees(text)


def test_names():
    assert parse_names("setting", "mimo, siso,mimo", SETTINGS) == ["mimo", "siso"]
    with pytest.raises(ConfigError, match="unknown setting 'mino': did you mean 'mimo'"):
        parse_names("setting", "mino", SETTINGS)
