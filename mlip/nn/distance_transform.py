"""Distances seen in units of the atoms' sizes, before radial functions are taken of them."""

import ase.data
import torch
from torch import Tensor

from mlip_kernels.constants import ConstantModule


class AgnesiTransform(ConstantModule):
    """`1 / (1 + a x^q / (1 + x^(q-p)))` with x the distance over the mean of the covalent radii.

    From 1 where atoms coincide it falls to 0, steepest around bond lengths (Witt et al. 2023, doi 10.1063/5.0158783, in
    the form of mace-torch). Constants are part of the state dict, since models may have trained or rounded them.

    Args:
        atomic_numbers: Atomic number of each of the model's elements.
    """

    radii: Tensor
    q: Tensor
    p: Tensor
    a: Tensor

    def __init__(self, atomic_numbers: list[int]) -> None:
        super().__init__()
        self.register_constant("radii", torch.tensor(ase.data.covalent_radii[atomic_numbers]), stored=True)
        for name, value in (("q", 0.9183), ("p", 4.5791), ("a", 1.0805)):
            self.register_constant(name, torch.tensor(value, dtype=torch.float64), stored=True)

    def forward(self, distances: Tensor, sender_elements: Tensor, receiver_elements: Tensor) -> Tensor:
        """Transformed distances of edges, [edges], from 0 to 1.

        Args:
            distances: Å [edges].
            sender_elements: Number of the sender's element in the model's list, int64 [edges].
            receiver_elements: The same of the receiver.
        """
        x = 2.0 * distances / (self.radii[sender_elements] + self.radii[receiver_elements])
        return 1.0 / (1.0 + self.a * x**self.q / (1.0 + x ** (self.q - self.p)))


class SoftTransform(ConstantModule):
    """Distances as they are, except that those well below the sum of the covalent radii count as 3/4 of it.

    `s + (r − s) (1 + tanh(α (r − m) / (t − s))) / 2` with s and t 3/4 and 4/3 of the sum, m halfway: mace-torch's.

    Args:
        atomic_numbers: Atomic number of each of the model's elements.
    """

    radii: Tensor
    alpha: Tensor

    def __init__(self, atomic_numbers: list[int]) -> None:
        super().__init__()
        self.register_constant("radii", torch.tensor(ase.data.covalent_radii[atomic_numbers]), stored=True)
        self.register_constant("alpha", torch.tensor(4.0, dtype=torch.float64), stored=True)

    def forward(self, distances: Tensor, sender_elements: Tensor, receiver_elements: Tensor) -> Tensor:
        """Transformed distances of edges, Å [edges]; arguments as those of `AgnesiTransform`."""
        size = self.radii[sender_elements] + self.radii[receiver_elements]
        start, end = 0.75 * size, 4.0 / 3.0 * size
        step = torch.tanh(self.alpha * (distances - 0.5 * (start + end)) / (end - start))
        return start + (distances - start) * 0.5 * (1.0 + step)


TRANSFORMS: dict[str, type[AgnesiTransform] | type[SoftTransform]] = {
    "agnesi": AgnesiTransform,
    "soft": SoftTransform,
}
