"""Backend `clebsch_gordan`: the sum over paths of any coupling, written out."""

from typing import ClassVar

import torch
from torch import Tensor

from mlip.tensor_products.backend import Backend
from mlip.tensor_products.couplings import COUPLINGS, Coupling
from mlip.tensor_products.spec import WEIGHT_STRUCTURES, ProductSpec, WeightStructure


class ClebschGordan(Backend):
    """Dense reference."""

    couplings: ClassVar[tuple[Coupling, ...]] = COUPLINGS
    weight_structures: ClassVar[tuple[WeightStructure, ...]] = WEIGHT_STRUCTURES

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        self.register_constant("tensor", torch.tensor(spec.tensor()))
        for number, path in enumerate(spec.paths):
            self.register_constant(f"path_{number}", torch.tensor(spec.coefficients(path)))

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        if self.spec.weights != "per_path" or weight is None:
            return super().forward(x, y, weight)
        outputs: list[Tensor | None] = [None] * len(self.spec.irreps_out)
        for number, path in enumerate(self.spec.paths):
            first, second, _ = self.spec.slices(path)
            coefficients = self.constant(f"path_{number}", x)
            y_path = y[:, second].expand(-1, -1, x.shape[2])
            part = torch.einsum("bic,bjc,ijk->bkc", x[:, first], y_path, coefficients) * weight[:, number, None]
            earlier = outputs[path.out]
            outputs[path.out] = part if earlier is None else earlier + part
        return torch.cat([output for output in outputs if output is not None], 1)

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("bic,bjc,ijk->bkc", x, y.expand(-1, -1, x.shape[2]), self.constant("tensor", x))

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        d1, d2, d3 = self.spec.dims
        return 2 * batch * channels * d1 * d2 * d3
