"""The gate against e3nn's, and its equivariance for every order in which parities can stand."""

import pytest
import torch
from e3nn import o3
from e3nn.math import normalize2mom
from e3nn.nn import Gate as E3NNGate
from e3nn_layout import from_e3nn, to_e3nn

from mlip.nn import Gate
from mlip.nn.activation import activation_scale
from mlip.nn.layout import blocks, canonical_irreps

CASES = ["4x0e", "4x0e+3x1o", "3x0e+2x0o", "3x0e+2x0o+4x1o+1x1e+2x2e+3x3o", "1x0e+5x0o+2x1e", "3x1o+2x2e", "2x0o+3x1o"]
ACTIVATIONS = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}


@pytest.mark.parametrize("irreps", CASES)
def test_equals_e3nn(irreps: str, e3nn_in_double: None) -> None:
    target = canonical_irreps(irreps)
    gate = Gate(target)
    scalars = o3.Irreps([entry for entry in target if entry.ir.l == 0])
    gated = o3.Irreps([entry for entry in target if entry.ir.l > 0])
    gates = o3.Irreps([(gated.num_irreps, "0e")]) if gated else o3.Irreps([])
    acts = [ACTIVATIONS["silu" if irrep.p == 1 else "tanh"] for _, irrep in scalars]
    reference = E3NNGate(scalars, acts, gates, [ACTIVATIONS["silu"]] * len(gates), gated)
    assert reference.irreps_in == gate.irreps_in
    features = torch.randn(6, gate.irreps_in.dim)
    outputs = reference(to_e3nn(features, gate.irreps_in))
    expected = from_e3nn(outputs, o3.Irreps(reference.irreps_out))
    # e3nn draws its normalisation from random numbers; the exact one differs by this ratio.
    ratio = {name: activation_scale(name) / normalize2mom(function).cst for name, function in ACTIVATIONS.items()}
    result = gate(features)
    for block in blocks(target):
        name = "tanh" if str(block.irrep) == "0o" else "silu"
        torch.testing.assert_close(block.of(result), block.of(expected) * ratio[name], rtol=0, atol=1e-13)


@pytest.mark.parametrize("irreps", CASES)
def test_equivariance(irreps: str, e3nn_in_double: None) -> None:
    gate = Gate(canonical_irreps(irreps))
    features = torch.randn(4, gate.irreps_in.dim)
    operation = -o3.rand_matrix()
    turn_in, turn_out = gate.irreps_in.D_from_matrix(operation), gate.irreps_out.D_from_matrix(operation)
    turned = from_e3nn(to_e3nn(features, gate.irreps_in) @ turn_in.T, gate.irreps_in)
    expected = from_e3nn(to_e3nn(gate(features), gate.irreps_out) @ turn_out.T, gate.irreps_out)
    torch.testing.assert_close(gate(turned), expected, rtol=0, atol=1e-13)


def test_derivatives() -> None:
    gate = Gate(canonical_irreps("2x0e+1x0o+2x1o+1x2e"))
    features = torch.randn(2, gate.irreps_in.dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gate, features)
    assert torch.autograd.gradgradcheck(gate, features)
