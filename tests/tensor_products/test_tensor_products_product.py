"""The public TensorProduct: paths, layouts against e3nn, weights, and what it refuses."""

import pytest
import torch
from e3nn import o3

from mlip.errors import ConfigError
from mlip.tensor_products import ProductPath, TensorProduct, backends
from mlip.tensor_products.product import act

EXAMPLE = ("16x0e+16x1o+16x2e", "0e+1o+2e", "16x0e+16x1o+16x2e")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def e3nn_product(product: TensorProduct, weighted: bool) -> o3.TensorProduct:
    """e3nn's product of the same paths, in their order, without any normalisation."""
    kind = "uvu" if product.mode == "channelwise" else "uuu"
    return o3.TensorProduct(
        product.irreps_in1,
        product.irreps_in2,
        product.irreps_out,
        [(path.in1, path.in2, path.out, kind, weighted) for path in product.paths],
        irrep_normalization="none",
        path_normalization="none",
        shared_weights=False if weighted else None,
    )


LAYOUTS = {
    "channelwise": [
        EXAMPLE,
        ("0e", "0e", "0e"),
        ("2x1o+2x0e+2x1o", "1o+0o+1o+2e", "2x0e+2x1o+2x2o+2x1o+2x1e"),
        ("2x0e+3x1o+2x1o+3x1e", "0e+1o+1o", "3x1o+2x0e+2x1e+3x2e"),
    ],
    "elementwise": [
        ("4x0e+4x1o+4x2e", "4x0e+4x1o+4x2e", "4x0e+4x1o+4x2e+4x3o"),
        ("2x1o+2x0e+2x1o", "2x1o+2x0o+2x1e", "2x1o+2x0e+2x1e+2x1o"),
        ("2x1o+3x1o+2x0e+3x2e", "3x1o+2x0e+2x1o+3x0e", "3x1o+2x1o+2x0e+3x2e+3x0e"),
    ],
}
CASES = [(mode, irreps) for mode, cases in LAYOUTS.items() for irreps in cases]


@pytest.mark.usefixtures("e3nn_in_double")
@pytest.mark.parametrize(("mode", "irreps"), CASES)
def test_operands_weights_and_result_have_the_layout_of_e3nn(mode: str, irreps: tuple[str, str, str]) -> None:
    product = TensorProduct(*irreps, mode=mode, weights="per_path")
    peer = e3nn_product(product, weighted=True)
    assert product.weight_numel == peer.weight_numel
    x, y = normal(5, product.irreps_in1.dim), normal(5, product.irreps_in2.dim, seed=1)
    weight = normal(5, product.weight_numel, seed=2)
    torch.testing.assert_close(product(x, y, weight), peer(x, y, weight), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("e3nn_in_double")
@pytest.mark.parametrize(("mode", "irreps"), CASES)
def test_the_bare_coupling_is_that_of_e3nn(mode: str, irreps: tuple[str, str, str]) -> None:
    product = TensorProduct(*irreps, mode=mode, weights="none")
    x, y = normal(5, product.irreps_in1.dim), normal(5, product.irreps_in2.dim, seed=1)
    torch.testing.assert_close(product(x, y), e3nn_product(product, weighted=False)(x, y), rtol=0, atol=1e-12)


def test_paths_stand_in_the_order_of_their_weights() -> None:
    product = TensorProduct("2x1o+2x0e", "0e+1o", "2x1o+2x0e+2x1e", weights="per_path")
    scalar, vector, axial = (o3.Irrep(each) for each in ("0e", "1o", "1e"))
    assert product.paths == (
        ProductPath(0, 0, 0, vector, scalar, vector),
        ProductPath(0, 1, 1, vector, vector, scalar),
        ProductPath(0, 1, 2, vector, vector, axial),
        ProductPath(1, 0, 1, scalar, scalar, scalar),
        ProductPath(1, 1, 0, scalar, vector, vector),
    )
    assert product.weight_numel == 10
    x, y = normal(1, product.irreps_in1.dim), normal(1, product.irreps_in2.dim, seed=1)
    # The weight of the third path and the second channel moves the second pseudovector and nothing else.
    moved = product(x, y, torch.eye(10, dtype=torch.float64)[5])[0].nonzero().flatten().tolist()
    assert moved == [11, 12, 13]


def test_paths_of_unequal_channels_are_named_by_their_entries() -> None:
    product = TensorProduct("1x0e+2x0e+1x1o", "0e+1o", "2x1o+1x1o", weights="per_path")
    assert [path[:3] for path in product.paths] == [(1, 1, 0), (0, 1, 1), (2, 0, 1)]
    # Two weights of the two channels, then those of the single channel.
    x, y = normal(1, product.irreps_in1.dim), normal(1, product.irreps_in2.dim, seed=1)
    moved = [product(x, y, row)[0].nonzero().flatten().tolist() for row in torch.eye(4, dtype=torch.float64)]
    assert moved == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [6, 7, 8]]


def test_weights_per_degree_stand_in_the_order_of_the_entries() -> None:
    product = TensorProduct("2x0e+2x1o", "0e+1o", "2x0e+2x1o", weights="per_degree")
    assert product.weight_numel == 2 * (2 + 2 + 2)
    x, y = normal(3, product.irreps_in1.dim), normal(3, product.irreps_in2.dim, seed=1)
    weight = normal(product.weight_numel, seed=2)
    first, second, third = weight.reshape(3, 2, 2)  # [operand, entry, channel]
    per_path = TensorProduct("2x0e+2x1o", "0e+1o", "2x0e+2x1o", weights="per_path")
    products = torch.stack([first[path.in1] * second[path.in2] * third[path.out] for path in per_path.paths])
    torch.testing.assert_close(product(x, y, weight), per_path(x, y, products.flatten()), rtol=0, atol=1e-13)


def test_a_shared_weight_scales_a_channel() -> None:
    operands = ("2x0e+2x1o", "0e+1o", "2x0e+2x1o")
    bare, shared = TensorProduct(*operands, weights="none"), TensorProduct(*operands, weights="shared")
    x, y = normal(3, 8), normal(3, 4, seed=1)
    expected = bare(x, y) * torch.tensor([2.0, -3.0, 2.0, 2.0, 2.0, -3.0, -3.0, -3.0], dtype=torch.float64)
    weight = torch.tensor([2.0, -3.0], dtype=torch.float64)
    torch.testing.assert_close(shared(x, y, weight), expected, rtol=0, atol=1e-14)


def test_the_documented_example() -> None:
    product = TensorProduct(
        *EXAMPLE, backend="spherical_grid", coupling="gaunt", weights="per_degree", mode="channelwise"
    )
    x, y = normal(7, 16 * 9).float(), normal(7, 9, seed=1).float()
    weight = normal(7, product.weight_numel, seed=2).float()
    result = product(x, y, weight)
    assert result.shape == (7, 16 * 9)
    assert result.dtype == torch.float32
    reference = TensorProduct(*EXAMPLE, coupling="gaunt", weights="per_degree")
    torch.testing.assert_close(result, reference(x, y, weight), rtol=1e-4, atol=1e-5)
    assert (product.coupling, product.exact) == ("gaunt", True)
    assert product.paths == reference.paths
    assert product.equivariance_error() < 1e-13


def test_channels_of_entries_without_any_and_duplicates() -> None:
    product = TensorProduct("2x0e+0x1o+2x1o", "0e+0x2e", "2x0e+0x1e+2x1o")
    plain = TensorProduct("2x0e+2x1o", "0e", "2x0e+2x1o")
    assert product.paths == plain.paths
    assert str(product.irreps_in1) == "2x0e+2x1o"
    x, y, weight = normal(3, 8), normal(3, 1, seed=1), normal(4, seed=2)
    assert torch.equal(product(x, y, weight), plain(x, y, weight))
    # Two equal entries of x are two terms of a sum.
    twice = TensorProduct("2x0e+2x0e", "0e", "2x0e")
    x, weight = normal(3, 4), normal(4, seed=2)
    expected = (x[:, :2] * weight[:2] + x[:, 2:] * weight[2:]) * y
    torch.testing.assert_close(twice(x, y, weight), expected, rtol=0, atol=1e-14)


def test_unnamed_entries_of_the_operands_do_not_matter() -> None:
    # Three channels in x, and no entry of the result with three.
    product = TensorProduct("2x0e+3x1o", "0e", "2x0e", weights="none")
    x, y = normal(3, 11), normal(3, 1, seed=1)
    torch.testing.assert_close(product(x, y), x[:, :2] * y, rtol=0, atol=1e-15)


def test_owned_weights_are_parameters() -> None:
    product = TensorProduct("2x0e+2x1o", "0e+1o", "2x0e+2x1o", own_weights=True)
    given = TensorProduct("2x0e+2x1o", "0e+1o", "2x0e+2x1o")
    assert [name for name, _ in product.named_parameters()] == ["weight"]
    assert product.state_dict().keys() == {"weight"}
    assert not list(given.parameters())
    assert not given.state_dict()
    x, y = normal(3, 8).float(), normal(3, 4, seed=1).float()
    assert torch.equal(product(x, y), given(x, y, product.weight))
    product(x, y).sum().backward()
    assert product.weight.grad is not None
    # Owned weights follow the dtype of the operands.
    assert product(x.double(), y.double()).dtype == torch.float64


def test_the_default_coupling_is_the_backends_first() -> None:
    assert TensorProduct("0e", "0e", "0e").coupling == "clebsch_gordan"
    assert TensorProduct("0e", "0e", "0e", backend="gaunt_fourier", weights="none").coupling == "gaunt"
    assert set(backends()) >= {"clebsch_gordan", "cp", "gaunt_fourier", "spherical_grid", "matrix"}


def test_equivariance_error_sees_what_is_not_equivariant() -> None:
    product = TensorProduct("0e+1o", "1o", "0e+1o+1e", weights="none")
    assert product.equivariance_error() < 1e-14
    backend = product.products[0]
    for name in ("bilinear", "forward"):
        inner = getattr(backend, name)
        setattr(backend, name, lambda x, y, *weight, inner=inner: inner(x, y, *weight) + 1e-3 * x[:, :1])
    assert product.equivariance_error() > 1e-4


def test_features_are_acted_on_as_by_e3nn(e3nn_in_double: None) -> None:
    irreps = o3.Irreps("2x0e+3x0o+2x1o+1e+2x2e+2o+3o")
    features = normal(4, irreps.dim)
    rotation = o3.matrix_x(torch.tensor(0.4)) @ o3.matrix_y(torch.tensor(2.0))
    for operation in (rotation, -rotation):
        expected = features @ irreps.D_from_matrix(operation).T
        torch.testing.assert_close(act(features, irreps, operation), expected, rtol=0, atol=1e-11)


def test_work_is_the_sum_over_the_channels() -> None:
    product = TensorProduct("2x0e+3x1o", "0e+1o", "2x0e+3x1o", weights="none")
    alone = [TensorProduct(each, "0e+1o", each, weights="none") for each in ("2x0e", "3x1o")]
    assert product.work(10).flops == sum(each.work(10).flops for each in alone)
    # Operands, result and weights of 5 rows in float32, and the only coefficient, which is 1.
    scalar = TensorProduct("2x0e", "0e", "2x0e", weights="shared", algorithm="dense")
    assert scalar.work(5).bytes == 4 * (5 * (2 + 1 + 2) + 1 + 5 * 2)


def test_weights_are_per_path_where_the_backend_has_them_else_per_degree() -> None:
    for backend, weights in (("clebsch_gordan", "per_path"), ("spherical_grid", "per_degree"), ("cp", "per_degree")):
        assert TensorProduct("2x0e", "0e", "2x0e", backend=backend).weights == weights


def test_the_representation_names_everything() -> None:
    assert "2x0e x 1x0e -> 2x0e, channelwise, coupling=gaunt, backend=clebsch_gordan, weights=none, 1 paths" in repr(
        TensorProduct("2x0e", "0e", "2x0e", coupling="gaunt", weights="none")
    )


@pytest.mark.parametrize(
    ("irreps", "arguments", "message"),
    [
        (("2x0e", "1o", "2x1x"), {}, r"'2x1x' is no list of irreps; write for example '16x0e\+16x1o'."),
        (("2x0e", "", "2x0e"), {}, "irreps of a tensor product are empty"),
        (("0x0e", "0e", "0e"), {}, "irreps of a tensor product are empty"),
        (("0e", "1o", "0e"), {}, "no path of the coupling 'clebsch_gordan' .* to '1x0e': leave it out of irreps_out"),
        (("1o", "1o", "1o"), {}, "no path of the coupling 'clebsch_gordan' .* to '1x1o'"),
        (("1o", "1o", "0e+3e"), {}, "no path .* to '1x3e'"),
        (
            ("1o", "1o", "0e+1e"),
            {"coupling": "gaunt"},
            "no path of the coupling 'gaunt' .* to '1x1e': leave it out of irreps_out, "
            "or choose the coupling clebsch_gordan.",
        ),
        (("1o", "1o", "1e"), {"backend": "gaunt_fourier", "weights": "none"}, "no path of the coupling 'gaunt'"),
        (("1o", "1o", "0e"), {"coupling": "bracket"}, "no path of the coupling 'bracket' .* to '1x0e'"),
        (("2x0e", "0e", "3x0e"), {}, "entries of 3 channels and the operands .* give them equal channels"),
        (("2x0e", "3x0e", "2x0e"), {"mode": "elementwise"}, "entries of 2 channels and the operands"),
        (("2x0e", "2x0e", "2x0e"), {}, r"irreps_in2 holds '2x0e'.* write '1o\+1o' for '2x1o', or choose the mode elem"),
        (("0e",) * 3, {"backend": "spherical_grids"}, "'spherical_grids': did you mean 'spherical_grid'"),
        (("0e",) * 3, {"backend": "zzz"}, "unknown tensor product backend 'zzz': choose one of clebsch_gordan, cp"),
        (("0e",) * 3, {"coupling": "gount"}, "unknown coupling 'gount': did you mean 'gaunt'"),
        (("0e",) * 3, {"weights": "per_paths"}, "unknown weight structure 'per_paths': did you mean 'per_path'"),
        (("0e",) * 3, {"mode": "element-wise"}, "unknown mode 'element-wise': did you mean 'elementwise'"),
        (
            ("0e",) * 3,
            {"backend": "spherical_grid", "weights": "per_path"},
            "'spherical_grid' has no 'per_path' weights: choose one of .* or the backend clebsch_gordan",
        ),
        (
            ("0e",) * 3,
            {"backend": "gaunt_fourier", "coupling": "clebsch_gordan", "weights": "none"},
            "'gaunt_fourier' does not compute the coupling 'clebsch_gordan': choose one of gaunt",
        ),
        (
            ("0e",) * 3,
            {"backend": "clebsch_gordan", "ranks": 3},
            "the backend 'clebsch_gordan' has no option 'ranks': it takes",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(irreps: tuple, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TensorProduct(*irreps, **arguments)


@pytest.mark.parametrize(
    ("x", "y", "weight", "message"),
    [
        ((5, 7), (5, 4), (5, 8), r"x has shape \[5, 7\]: give \[batch, 8\], that is irreps 2x0e\+2x1o"),
        ((5, 8), (5, 3), (5, 8), r"y has shape \[5, 3\]: give \[batch, 4\]"),
        ((8,), (4,), (8,), r"x has shape \[8\]"),
        ((5, 1, 8), (5, 1, 4), (5, 8), r"x has shape \[5, 1, 8\]"),
        ((5, 8), (4, 4), (5, 8), "x has 5 rows and y has 4: give both the same batch"),
        ((5, 8), (1, 4), (5, 8), "x has 5 rows and y has 1"),
        ((5, 8), (5, 4), None, r"this product has 8 weights: give them as \[batch, 8\] or \[8\], or build it with own"),
        ((5, 8), (5, 4), (5, 7), r"the weights have shape \[5, 7\]: give \[5, 8\] or \[8\]"),
        ((5, 8), (5, 4), (4, 8), r"the weights have shape \[4, 8\]"),
        ((5, 8), (5, 4), (5, 4, 2), r"the weights have shape \[5, 4, 2\]"),
    ],
)
def test_operands_of_other_shapes_are_refused(x: tuple, y: tuple, weight: tuple | None, message: str) -> None:
    product = TensorProduct("2x0e+2x1o", "0e+1o", "2x0e+2x1o")
    with pytest.raises(ConfigError, match=message):
        product(normal(*x), normal(*y), None if weight is None else normal(*weight))


def test_weights_beside_owned_or_absent_ones_are_refused() -> None:
    owner = TensorProduct("2x0e", "0e", "2x0e", own_weights=True)
    with pytest.raises(ConfigError, match="this product owns its weights: call it without any"):
        owner(normal(5, 2), normal(5, 1), normal(2))
    bare = TensorProduct("2x0e", "0e", "2x0e", weights="none")
    with pytest.raises(ConfigError, match=r"the weights have shape \[2\].* that is none, for weights='none'"):
        bare(normal(5, 2), normal(5, 1), normal(2))
