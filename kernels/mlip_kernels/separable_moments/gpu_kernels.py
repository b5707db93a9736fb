# mypy: disable-error-code="no-untyped-def, assignment"
"""Triton kernels of the maps between particles and coefficient tensors: matrix products of tiles in full precision.

One of the matrices holds products of two factors, which are formed tile by tile and never stored.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["channels", "slices", "ra", "rb", "rc"])
def moments_of_particles(
    charges, x, y, z, starts, result, channels, slices, ra, rb, rc,
    rows: tl.constexpr, columns: tl.constexpr, run: tl.constexpr,
):  # fmt: skip
    """Moments of a slice of one structure's particles, for rows of the first axis and columns of the other two."""
    program = tl.program_id(0).to(tl.int64)
    owner = program // slices
    structure, channel, number = owner // channels, owner % channels, program % slices
    begin, end = tl.load(starts + structure), tl.load(starts + structure + 1)
    first = begin + (end - begin) * number // slices
    last = begin + (end - begin) * (number + 1) // slices
    a = tl.program_id(2) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    inside = column < rb * rc
    b, d = column // rc, column % rc
    total = tl.zeros([rows, columns], x.dtype.element_ty)
    for start in range(first, last, run):
        particle = start + tl.arange(0, run)
        mask = particle < last
        charge = tl.load(charges + particle * channels + channel, mask=mask, other=0.0)
        left = tl.load(x + particle[None, :] * ra + a[:, None], mask=mask[None, :] & (a < ra)[:, None], other=0.0)
        both = mask[:, None] & inside[None, :]
        right = tl.load(y + particle[:, None] * rb + b[None, :], mask=both, other=0.0)
        right *= tl.load(z + particle[:, None] * rc + d[None, :], mask=both, other=0.0)
        total = tl.dot(left * charge[None, :], right, total, input_precision="ieee", out_dtype=total.dtype)
    place = result + (program * ra + a[:, None]) * (rb * rc) + column[None, :]
    tl.store(place, total, mask=(a < ra)[:, None] & inside[None, :])


@triton.jit
def _factors(array, particle, mask, rank, width: tl.constexpr):
    """Rows of an array [particles, rank], padded by zeros."""
    place = tl.arange(0, width)
    inside = mask[:, None] & (place < rank)[None, :]
    return tl.load(array + particle[:, None] * rank + place[None, :], mask=inside, other=0.0)


@triton.jit
def _store_factors(array, particle, mask, rank, values, width: tl.constexpr):
    place = tl.arange(0, width)
    inside = mask[:, None] & (place < rank)[None, :]
    tl.store(array + particle[:, None] * rank + place[None, :], values, mask=inside)


@triton.jit(do_not_specialize=["channels", "ra", "rb", "rc"])
def contraction_at_particles(
    tensor, charges, x, y, z, tiles, of_charges, of_y, of_z, channels, ra, rb, rc,
    particles: tl.constexpr, width: tl.constexpr, depth: tl.constexpr, width_channels: tl.constexpr,
    reduction: tl.constexpr,
):  # fmt: skip
    """Gradients of L for charges and the factors of the second and third axis, for particles of one structure.

    The reduction says which: the gradients for charges ("values"), for all of them ("gradients"), or for the factors
    of the third axis alone ("last").
    """
    tile = tiles + 3 * tl.program_id(0).to(tl.int64)
    structure, particle = tl.load(tile), tl.load(tile + 1) + tl.arange(0, particles)
    mask = particle < tl.load(tile + 2)
    own_z = _factors(z, particle, mask, rc, width)
    sums_z = tl.zeros([particles, width], x.dtype.element_ty)
    sums_charges = tl.zeros([particles, width_channels], x.dtype.element_ty)
    column = tl.arange(0, width)
    for b in range(0, rb):
        own_y = tl.load(y + particle * rb + b, mask=mask, other=0.0)
        sum_y = tl.zeros([particles], x.dtype.element_ty)
        for channel in range(0, channels):
            contracted = tl.zeros([particles, width], x.dtype.element_ty)
            matrix = tensor + ((structure * channels + channel) * ra * rb + b) * rc
            # A few values of the first axis at a time, which need few registers.
            for start in range(0, ra, depth):
                a = start + tl.arange(0, depth)
                left = mask[:, None] & (a < ra)[None, :]
                left = tl.load(x + particle[:, None] * ra + a[None, :], mask=left, other=0.0)
                right = (a < ra)[:, None] & (column < rc)[None, :]
                right = tl.load(matrix + a[:, None] * (rb * rc) + column[None, :], mask=right, other=0.0)
                contracted = tl.dot(left, right, contracted, input_precision="ieee", out_dtype=contracted.dtype)
            if reduction != "last":
                along = tl.sum(contracted * own_z, 1)
                here = (tl.arange(0, width_channels) == channel)[None, :]
                sums_charges += tl.where(here, (own_y * along)[:, None], 0.0)
            if reduction != "values":
                charge = tl.load(charges + particle * channels + channel, mask=mask, other=0.0)
                sums_z += (charge * own_y)[:, None] * contracted
                if reduction == "gradients":
                    sum_y += charge * along
        if reduction == "gradients":
            tl.store(of_y + particle * rb + b, sum_y, mask=mask)
    if reduction != "values":
        _store_factors(of_z, particle, mask, rc, sums_z, width)
    if reduction != "last":
        _store_factors(of_charges, particle, mask, channels, sums_charges, width_channels)
