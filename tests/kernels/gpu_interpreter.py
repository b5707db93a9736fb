"""Runs checks of Triton kernels in Triton's interpreter: in a process of its own, since that is chosen on import."""

import os
import subprocess
import sys
from pathlib import Path


def run_interpreted(*names: str) -> None:
    """Run the checks of files beside this one, and fail with what they print if one fails."""
    # Threads would spend more time in waiting than in work on operands of a few dozen numbers.
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    paths = [str(Path(__file__).parent / name) for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
