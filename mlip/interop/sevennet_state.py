"""The tensors of a SevenNet checkpoint, under one set of names whatever its version."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mlip.errors import CheckpointError
from mlip.so3 import wigner_3j

# Names of modules before version 0.10, where those of layers have spaces besides.
OLD_MODULES = {
    "EdgeEmbedding": "edge_embedding",
    "reducing nn input to hidden": "reduce_input_to_hidden",
    "reducing nn hidden to energy": "reduce_hidden_to_energy",
    "rescale atomic energy": "rescale_atomic_energy",
}
# Constants of e3nn's and cuEquivariance's modules, which follow from the configuration.
CONSTANT = re.compile(r"\.output_mask$|\._w3j_\d+_\d+_\d+$|\.f\.tp\.")
# e3nn's constants are kept in single precision.
ROUNDING = 1e-6


class SevenNetState:
    """Tensors in float64, each taken once; what is left over at the end is no part of a network of ours.

    Args:
        tensors: The checkpoint's state dict.

    Raises:
        CheckpointError: one of its values is no tensor.
    """

    def __init__(self, tensors: Mapping[str, object]) -> None:
        self._tensors: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                raise CheckpointError(
                    f"'{name}' in the SevenNet checkpoint is no tensor but a {type(tensor).__name__}; "
                    "give a checkpoint as SevenNet writes it."
                )
            self._tensors[present_name(str(name))] = tensor
        self._taken: set[str] = set()

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor by name, float64, in the shape given.

        Raises:
            CheckpointError: it is missing, has another number of values, or holds some that are not finite.
        """
        if name not in self._tensors:
            raise CheckpointError(f"the SevenNet checkpoint lacks the weights '{name}'; copy or download it again.")
        tensor = self._tensors[name].detach().to(torch.float64)
        if tensor.numel() != torch.Size(shape).numel():
            raise CheckpointError(
                f"the weights '{name}' of the SevenNet checkpoint have the shape {list(tensor.shape)}, "
                f"and its configuration asks for {list(shape)}; such a model cannot be imported."
            )
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"the weights '{name}' of the SevenNet checkpoint are not finite; train it again.")
        self._taken.add(name)
        return tensor.reshape(shape)

    def size(self, name: str) -> int:
        """Number of values of a tensor, 0 where there is none."""
        return self._tensors[name].numel() if name in self._tensors else 0

    def coupling_sign(self, convolution: str, degrees: tuple[int, int, int]) -> float:
        """Sign of the 3j tensor that a convolution was trained with against the present one; older ones may differ.

        Raises:
            CheckpointError: it is no 3j tensor of these degrees.
        """
        name = f"{convolution}.convolution._compiled_main_left_right._w3j_" + "_".join(map(str, degrees))
        if name not in self._tensors:
            return 1.0
        ours = torch.tensor(wigner_3j(*degrees))
        theirs = self._tensors[name].detach().to(torch.float64)
        for sign in (1.0, -1.0):
            if theirs.shape == ours.shape and float((theirs - sign * ours).abs().max()) < ROUNDING:
                return sign
        raise CheckpointError(f"'{name}' of the SevenNet checkpoint is no 3j tensor; copy or download it again.")

    def check_all_taken(self) -> None:
        """Make sure that nothing of the network was left out.

        Raises:
            CheckpointError: there are further weights.
        """
        for name, tensor in self._tensors.items():
            if name not in self._taken and tensor.numel() and not CONSTANT.search(name):
                raise CheckpointError(
                    f"the SevenNet checkpoint has the weights '{name}', which a network of this package has not; "
                    "such a model cannot be imported."
                )


def present_name(name: str) -> str:
    """The name that SevenNet gives a tensor now, for a name of any version: `0 convolution.denumerator`, say."""
    module, _, parameter = name.partition(".")
    module = OLD_MODULES.get(module, module.replace(" ", "_"))
    return f"{module}.{parameter.replace('denumerator', 'denominator')}"
