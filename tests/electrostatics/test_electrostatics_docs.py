"""What the documentation of electrostatics shows is what is printed."""

import doctest
from pathlib import Path

import pytest


@pytest.fixture
def text(repository: Path) -> str:
    return (repository / "docs" / "electrostatics.md").read_text()


def test_the_sessions_print_what_they_show(text: str) -> None:
    session = doctest.DocTestParser().get_doctest(text, {}, "docs/electrostatics.md", None, 0)
    results = doctest.DocTestRunner().run(session)
    assert results.attempted > 15
    assert results.failed == 0


def test_every_method_is_described(text: str) -> None:
    for method in ("direct", "ewald", "chebyshev_tucker"):
        assert f"| `{method}` |" in text
