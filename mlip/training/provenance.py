"""Where a model comes from: data, seed, version, commit, machine."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import mlip
from mlip.training.config import TrainingConfig


def collect_provenance(
    config: TrainingConfig, frames: tuple[int, int], parameters: int, device: str, world_size: int
) -> dict[str, Any]:
    """Plain values for the model file and the report; `frames` are the numbers for training and validation."""
    return {
        "training_files": config.data.train,
        "training_frames": frames[0],
        "validation_frames": frames[1],
        "parameters": parameters,
        "seed": config.seed,
        "package_version": mlip.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(device),
        "processes": world_size,
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "config": config.model_dump(mode="json"),
    }


def commit() -> str | None:
    """The commit of the checkout that the package runs from, marked if files differ from it; None outside of one."""
    root = Path(mlip.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def machine(device: str) -> str:
    """The processor or GPU, in words; `device` is "cpu" or "cuda"."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"
