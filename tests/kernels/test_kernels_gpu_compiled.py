"""Triton's kernels compiled for every target, without a GPU: nothing is spilled."""

import pytest
from harmonics_cases import harmonics_table

from mlip_kernels.gpu_compile import TARGETS, CompileCase, compile_case


def cases() -> list[CompileCase]:
    from mlip_kernels.coulomb_pairs import gpu as coulomb_pairs
    from mlip_kernels.factorised_convolution import gpu as factorised_convolution
    from mlip_kernels.factorised_product import gpu as factorised_product
    from mlip_kernels.radial_table import gpu as radial_table
    from mlip_kernels.separable_moments import gpu as separable_moments
    from mlip_kernels.spherical_harmonics import gpu as spherical_harmonics

    return [
        *coulomb_pairs.compile_cases(),
        *factorised_convolution.compile_cases(),
        *factorised_product.compile_cases(),
        *radial_table.compile_cases(),
        *separable_moments.compile_cases(),
        *spherical_harmonics.compile_cases(harmonics_table(3)),
    ]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_nothing_is_spilled(case: CompileCase, target: str) -> None:
    if target in case.targets:
        usage = compile_case(case, target)
        assert usage.spills == 0
        assert 0 < usage.registers <= 255
