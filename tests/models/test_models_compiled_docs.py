"""What the documentation of compiled potentials shows is so."""

import doctest
import re
from pathlib import Path

import mlip_kernels.simd


def test_the_sessions_print_what_they_show(repository: Path) -> None:
    text = (repository / "docs" / "inference.md").read_text()
    session = doctest.DocTestParser().get_doctest(text, {}, "docs/inference.md", None, 0)
    results = doctest.DocTestRunner().run(session)
    assert results.attempted > 15
    assert results.failed == 0


def test_every_module_of_the_code_generator_is_named(repository: Path) -> None:
    section = (repository / "docs" / "inference.md").read_text().split("| Module |")[1]
    named = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    folder = Path(mlip_kernels.simd.__file__).parent
    assert named == {path.stem for path in folder.glob("*.py")} - {"__init__"}
