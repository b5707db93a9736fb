"""What compiled programs ask of their operands."""

import torch
from torch import Tensor


def check_types(*operands: Tensor) -> None:
    """Raise a ValueError unless all operands are float32, or all are float64: programs read memory as one of these."""
    found = {each.dtype for each in operands}
    if len(found) > 1 or not found <= {torch.float32, torch.float64}:
        names = ", ".join(str(each.dtype).removeprefix("torch.") for each in operands)
        raise ValueError(f"operands of one operation are {names}: give all of them in float32, or all in float64.")
