"""Triton's interpreter on the kernels of the files interpreted_*.py: it is chosen when Triton is imported."""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def test_kernels_in_the_interpreter() -> None:
    files = sorted(map(str, FOLDER.glob("interpreted_*.py")))
    assert files
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment, cwd=FOLDER.parent.parent
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
