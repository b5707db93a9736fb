"""The convolution's Triton kernels: their checks in the interpreter, and their source."""

import numpy as np
import pytest
from gpu_interpreter import run_interpreted

from mlip_kernels.channelwise_convolution import ConvolutionPath, ConvolutionTable
from mlip_kernels.channelwise_convolution.gpu import GpuConvolution
from mlip_kernels.channelwise_convolution.gpu_groups import Task, path_groups
from mlip_kernels.channelwise_convolution.gpu_source import coefficients_source
from mlip_kernels.channelwise_convolution.gpu_text import KernelPaths, nonzero_couplings
from mlip_kernels.gpu_shapes import convolution_shape, real_coupling


def test_kernels_in_the_interpreter() -> None:
    """Those of the segment sum too, by which derivatives are summed: a process takes seconds to begin."""
    run_interpreted("gpu_convolution_checks.py", "gpu_segment_sum_checks.py")


@pytest.mark.parametrize("task", ["forward", "gradients", "coefficients"])
@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("channels", [(128,), (128, 128, 128), (128, 64, 32, 32), (64, 32, 64)])
def test_groups_hold_each_path_once(task: Task, itemsize: int, channels: tuple[int, ...]) -> None:
    table = convolution_shape(channels, 3, even=False)
    groups = path_groups(table, task, itemsize)
    numbers = [number for group in groups for number in group.numbers]
    assert sorted(numbers) == list(range(len(table.paths)))
    seen: set[int] = set()
    for group in groups:
        assert {table.paths[number].channels for number in group.numbers} == {group.channels}
        irreps = {table.paths[number].input_offset for number in group.numbers}
        assert group.continued == irreps & seen
        seen |= irreps


def test_the_convolutions_of_a_usual_mace_need_one_kernel_each() -> None:
    for channels in ((128,), (128, 128)):
        for task in ("forward", "gradients", "coefficients"):
            assert len(path_groups(convolution_shape(channels, 3), task, 4)) == 1


def test_rounding_leaves_no_couplings() -> None:
    coupling = real_coupling(1, 1, 1)
    coupling[0, 0, 0] = 1e-17
    path = ConvolutionPath(0, 1, 0, 0, 1, 0, 1, coupling)
    couplings = nonzero_couplings(path)
    assert len(couplings) == 6
    assert all(coupling[place] == value for place, value in couplings.items())
    assert nonzero_couplings(ConvolutionPath(0, 0, 0, 0, 1, 0, 1, np.zeros((1, 1, 1)))) == {}


def test_columns_without_a_path_are_refused() -> None:
    path = ConvolutionPath(0, 0, 0, 0, 1, 0, 1, np.ones((1, 1, 1)))
    with pytest.raises(ValueError, match="1 weights and 1 output columns, and the table has 2 and 1"):
        GpuConvolution(ConvolutionTable((path,), 1, 1, 2, 1))


def test_weights_of_edges_have_no_coefficients() -> None:
    table: ConvolutionTable = convolution_shape((2,), 1)
    (group,) = path_groups(table, "coefficients", 4)
    with pytest.raises(ValueError, match="no coefficients"):
        coefficients_source(KernelPaths(table, group, None, 32))


@pytest.mark.parametrize("degrees", [(1, 1, 0), (1, 1, 1), (1, 2, 3), (2, 2, 2), (3, 2, 2), (3, 3, 3)])
def test_couplings_of_shapes_are_those_of_e3nn_but_for_signs_and_order(degrees: tuple[int, int, int]) -> None:
    from e3nn.o3 import wigner_3j

    found = np.sort(np.abs(real_coupling(*degrees)).ravel())
    np.testing.assert_allclose(found, np.sort(np.abs(wigner_3j(*degrees).double().numpy()).ravel()), atol=1e-6)
