"""Emits the cubic B-splines of the radial tables, and where a distance lies among their knots."""

from mlip_kernels.simd.code import Code, Index, Real

# Cubic B-splines have four of them on every interval.
BASIS = 4


def spline_basis(code: Code, fraction: Real, inverse_spacing: Real, derivative: int) -> list[Real]:
    """The four cubic B-splines on an interval, or a derivative of theirs with respect to the distance.

    Args:
        fraction: Place in the interval, 0 to 1.
        inverse_spacing: 1 / distance of the knots.
        derivative: Order, 0 or more.
    """
    x = fraction
    rest = 1.0 - x
    values: list[Real | float]
    if derivative == 0:
        square, cube = x * x, x * x * x
        values = [
            rest * rest * rest * (1 / 6),
            (3.0 * cube - 6.0 * square + 4.0) * (1 / 6),
            (3.0 * (x + square - cube) + 1.0) * (1 / 6),
            cube * (1 / 6),
        ]
    elif derivative == 1:
        square = x * x
        values = [rest * rest * -0.5, 1.5 * square - 2.0 * x, x - 1.5 * square + 0.5, square * 0.5]
    elif derivative == 2:
        values = [rest, 3.0 * x - 2.0, 1.0 - 3.0 * x, x]
    elif derivative == 3:
        values = [-1.0, 3.0, -3.0, 1.0]
    else:
        values = [0.0] * BASIS
    scale = code.number(1.0)
    for _ in range(derivative):
        scale = scale * inverse_spacing
    return [code.number(value) * scale for value in values]


def table_place(code: Code, distance: Real, origin: Real, inverse_spacing: Real, last: Index) -> tuple[Index, Real]:
    """Number of the interval a distance lies in, at most `last`, and its place in the interval."""
    position = (distance - origin) * inverse_spacing
    interval = position.truncated().least(last)
    return interval, position - interval.real()
