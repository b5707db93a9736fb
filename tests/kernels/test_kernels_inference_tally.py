"""The counted arithmetic of inference programs against the instructions that are emitted."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from inference_networks import two_layers
from llvmlite import ir

from mlip_kernels.channelwise_convolution.cpu_code import ConvolutionCode, row_layouts
from mlip_kernels.channelwise_convolution.cpu_plan import ConvolutionPlan
from mlip_kernels.inference.spec import ChannelMap, Contraction, Layer, MapBlock, Network, Readout
from mlip_kernels.inference.tally import tally
from mlip_kernels.simd.code import Code
from mlip_kernels.symmetric_contraction.cpu_code import ContractionCode, ContractionLayout
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan

LANES = 8


@pytest.fixture(scope="module")
def network() -> Network:
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    made = two_layers(LANES)
    torch.set_default_dtype(previous)
    return made


def emitted(name: str, code: Code) -> tuple[int, int]:
    """Flops of the vector instructions of a function's body: outside of loops, and in its loops' bodies."""
    (function,) = [each for each in code.builder.module.functions if each.name.endswith(name)]
    counts: Counter[bool] = Counter()
    for block in function.blocks:
        for instruction in block.instructions:
            if not isinstance(instruction.type, ir.VectorType):
                continue
            if isinstance(instruction, ir.CallInstr) and "fmuladd" in instruction.callee.name:
                counts[block.name.startswith("body")] += 2
            elif instruction.opname in ("fmul", "fadd"):
                counts[block.name.startswith("body")] += 1
    return LANES * counts[False], LANES * counts[True]


def code_in_a_module() -> Code:
    function = ir.Function(ir.Module("counted"), ir.FunctionType(ir.VoidType(), []), "outer")
    return Code(ir.IRBuilder(function.append_basic_block("entry")), "float64", LANES, {})


def test_convolutions_do_what_is_counted(network: Network) -> None:
    for number, layer in enumerate(network.layers):
        plan = ConvolutionPlan(layer.convolution, LANES, 32)
        code = code_in_a_module()
        convolution = ConvolutionCode(plan, row_layouts(plan), True, "convolution")
        convolution.define_forward(code)
        convolution.define_gradients(code, of_features=number > 0, of_weights=False)
        atom = edge = 0
        for place, blocks in enumerate(plan.ranges):
            for name in (f"convolution_forward_{place}", f"convolution_gradients_{place}"):
                outside, inside = emitted(name, code)
                atom += outside * (blocks.last - blocks.first)
                edge += inside * (blocks.last - blocks.first)
        counted = tally(network).operations[f"layer {number + 1} convolution"]
        assert counted.atom == atom
        # What is emitted holds the sums over lanes too.
        assert 0.75 * edge < counted.edge < edge


def test_products_do_what_is_counted(network: Network) -> None:
    product = network.layers[0].product
    assert isinstance(product, Contraction)
    plan = ContractionPlan(product.table)
    code = code_in_a_module()
    outputs = tuple(range(0, plan.num_outputs * LANES, LANES))
    contraction = ContractionCode(plan, ContractionLayout(LANES, LANES, outputs), "contraction")
    contraction.define_forward(code)
    contraction.define_gradients(code, of_coefficients=False)
    blocks = product.channels // LANES
    emitted_flops = sum(emitted(f"contraction_{name}", code)[0] for name in ("forward", "gradients")) * blocks
    # Products of all factors of a monomial that none goes on from are emitted for gradients but not used: the compiler
    # drops them.
    unused = sum(1 for monomial in plan.row_numbers if len(monomial) > 1 and monomial not in plan.children)
    counted = tally(network).operations["layer 1 products"]
    assert counted.edge == 0
    assert counted.atom == emitted_flops - unused * product.channels


def test_maps_and_readouts_are_matrix_products(network: Network) -> None:
    first = network.layers[0]
    block = MapBlock(0, 0, 3, np.ones((4, 16, 24)))
    alone = ChannelMap((block,), 48, 72, per_element=True)
    layer = replace(first, down=alone, message=None, out=None, residual=None, up=None)
    layer = replace(layer, readout=Readout(0, np.ones((16, 8)), np.ones((1, 8))))
    counted = counted_of(layer, network)
    assert counted["layer 1 maps"].atom == 2 * (2 * 3 * 16 * 24)  # forward and backward, whatever the elements
    assert counted["layer 1 readout"].atom == 3 * (2 * 16 * 8) + 2 * (2 * 8)


def counted_of(layer: Layer, network: Network) -> dict:
    return tally(replace(network, layers=(layer,))).operations


def test_total_is_that_of_atoms_and_edges(network: Network) -> None:
    counted = tally(network)
    assert counted.total(0, 0) == 0
    per_atom = sum(flops.atom for flops in counted.operations.values())
    per_edge = sum(flops.edge for flops in counted.operations.values())
    assert counted.total(3, 7) == 3 * per_atom + 7 * per_edge
