"""What the documentation of tensor products says is so."""

import doctest
import inspect
import re
from pathlib import Path

import pytest

from mlip.tensor_products import backends
from mlip.tensor_products.backend import backend_class
from mlip.tensor_products.couplings import COUPLINGS
from mlip.tensor_products.spec import WEIGHT_STRUCTURES


@pytest.fixture
def text(repository: Path) -> str:
    return (repository / "docs" / "tensor_products.md").read_text()


def table(text: str, heading: str) -> list[list[str]]:
    """Rows of the table below a heading."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def test_the_sessions_print_what_they_show(text: str) -> None:
    session = doctest.DocTestParser().get_doctest(text, {}, "docs/tensor_products.md", None, 0)
    results = doctest.DocTestRunner().run(session)
    assert results.attempted > 10
    assert results.failed == 0


def test_every_coupling_and_weight_structure_is_described(text: str) -> None:
    assert [names(row[0]) for row in table(text, "Couplings")] == [[coupling] for coupling in COUPLINGS]
    assert {names(row[0])[0] for row in table(text, "Weights and modes")} == set(WEIGHT_STRUCTURES)


def test_the_table_of_backends_is_what_they_declare(text: str) -> None:
    rows = {names(row[0])[0]: row[1:] for row in table(text, "Backends")}
    assert rows.keys() == backends().keys()
    for name, (couplings, weights, how) in rows.items():
        backend = backend_class(name)
        assert tuple(names(couplings)) == backend.couplings, name
        assert set(names(weights)) == set(backend.weight_structures), name
        parameters = inspect.signature(backend.__init__).parameters.values()
        for option in (each.name for each in parameters if each.kind is each.KEYWORD_ONLY):
            assert re.search(rf"`{option}\b", how), f"the option {option} of {name} is not described"
