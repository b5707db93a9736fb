"""Which derivatives a backward pass is after, for operations that would compute others in vain.

Autograd asks an operation for the gradients of all inputs that require one, whether or not the pass goes on to them:
those of radial tables where only forces are wanted, those of positions where only parameters are trained. An operation
looks here and may give zeros for what is not wanted. It is a statement about the pass, not about the model: whoever
makes it asks autograd for nothing else.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Inputs = Literal["all", "positions", "parameters"]

# Backward passes on the CPU run in the thread that starts them.
_PASS = threading.local()


@contextmanager
def only(inputs: Inputs) -> Iterator[None]:
    """Within this context backward passes are for the gradients of positions, or of parameters, alone."""
    before = wanted()
    _PASS.inputs = inputs
    try:
        yield
    finally:
        _PASS.inputs = before


def wanted() -> Inputs:
    """What the present pass is for."""
    inputs: Inputs = getattr(_PASS, "inputs", "all")
    return inputs
