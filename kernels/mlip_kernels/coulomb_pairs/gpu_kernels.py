# mypy: disable-error-code="no-untyped-def, assignment"
"""Triton kernels of the pair sums. A program has a tile of receivers, one of a list or a few of a structure.

Each lane has pairs of its own, whose sums stay in registers until the last pair.
"""

import triton
import triton.language as tl


@triton.jit
def _bounds(places, listed: tl.constexpr):
    """First receiver of the program's tile, and first and last of its pairs or senders."""
    program = tl.program_id(0).to(tl.int64)
    if listed:
        return program, tl.load(places + program), tl.load(places + program + 1)
    else:  # noqa: RET505 (Triton reads one branch only)
        tile = places + 3 * program
        return tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)


@triton.jit
def _difference(array, extra, receiver, sender, pair, inside, mask, axis: tl.constexpr, listed: tl.constexpr):
    """What senders have more than receivers of one column of an array [atoms, 3], [receivers, pairs]."""
    given = tl.load(array + 3 * sender + axis, mask=mask, other=0.0)
    if listed:
        given += tl.load(extra + 3 * pair + axis, mask=mask, other=0.0)
    own = tl.load(array + 3 * receiver + axis, mask=inside, other=0.0)
    return given[None, :] - own[:, None]


@triton.jit
def _of_channels(array, atom, mask, channels: tl.constexpr, width: tl.constexpr):
    """Rows of an array [atoms, channels], [atoms of the tile, width]."""
    channel = tl.arange(0, width)
    inside = mask[:, None] & (channel < channels)[None, :]
    return tl.load(array + atom[:, None] * channels + channel[None, :], mask=inside, other=0.0)


@triton.jit
def _products(of_receivers, of_senders):
    """Inner products over channels of all receivers with all senders, [receivers, pairs]."""
    return tl.sum(of_receivers[:, None, :] * of_senders[None, :, :], 2)


@triton.jit
def _store_channels(result, atom, mask, sums, channels: tl.constexpr, width: tl.constexpr):
    """Sums over pairs, of sums [receivers, pairs, width]."""
    channel = tl.arange(0, width)
    inside = mask[:, None] & (channel < channels)[None, :]
    tl.store(result + atom[:, None] * channels + channel[None, :], tl.sum(sums, 1), mask=inside)


@triton.jit
def _store_vectors(result, atom, mask, x, y, z):
    """Sums over pairs of three components, each [receivers, pairs]."""
    tl.store(result + 3 * atom, tl.sum(x, 1), mask=mask)
    tl.store(result + 3 * atom + 1, tl.sum(y, 1), mask=mask)
    tl.store(result + 3 * atom + 2, tl.sum(z, 1), mask=mask)


@triton.jit
def _store_pairs(result, pair, mask, x, y, z):
    """Vectors of the pairs of the only receiver, each component [1, pairs]."""
    place = result + 3 * pair[None, :]
    tl.store(place, x, mask=mask[None, :])
    tl.store(place + 1, y, mask=mask[None, :])
    tl.store(place + 2, z, mask=mask[None, :])


@triton.jit
def _erfc(x, coefficients: tl.constexpr):
    """The complementary error function of numbers that are not negative, and exp(-x^2), as in `cpu_erfc`."""
    decline = tl.exp(-x * x)
    scale = 1.0 / ((x + 3.75) * (1.0 + 2.0 * x))
    y = 1.0 - 7.5 * (1.0 + 2.0 * x) * scale
    total = tl.full(y.shape, coefficients[len(coefficients) - 1], y.dtype)
    for order in tl.static_range(1, len(coefficients)):
        total = total * y + coefficients[len(coefficients) - 1 - order]
    return decline * (x + 3.75) * scale * total, decline


@triton.jit
def _radial(square, screening, coefficients: tl.constexpr):
    """The functions u, f and h of `reference`; without coefficients those of bare charges."""
    inverse = 1.0 / tl.sqrt(square)
    if len(coefficients) == 0:
        cube = inverse * inverse * inverse
        return inverse, -cube, 3.0 * cube * inverse * inverse
    else:  # noqa: RET505 (Triton reads one branch only)
        alpha, cutoff, width = tl.load(screening), tl.load(screening + 1), tl.load(screening + 2)
        distance = square * inverse
        value, decline = _erfc(alpha * distance, coefficients)
        u = value * inverse
        # 2 / sqrt(pi)
        decline *= 1.1283791670955126 * alpha
        f = -(u + decline) * inverse * inverse
        h = (2.0 * alpha * alpha * decline - 3.0 * f) * inverse * inverse
        # The factor that ends the list, and the same derivatives of it.
        place = (distance - cutoff) / width
        value, slope = _erfc(tl.abs(place), coefficients)
        end = tl.where(place < 0.0, 1.0 - 0.5 * value, 0.5 * value)
        # 1 / sqrt(pi)
        end_f = -0.5641895835477563 / width * slope * inverse
        end_h = -end_f * (2.0 * place / width + inverse) * inverse
        return u * end, f * end + u * end_f, h * end + 2.0 * f * end_f + u * end_h


@triton.jit
def pair_potential(
    positions, offsets, charges, senders, places, screening, result, channels: tl.constexpr, width: tl.constexpr,
    receivers: tl.constexpr, pairs: tl.constexpr, listed: tl.constexpr, coefficients: tl.constexpr,
):  # fmt: skip
    """Potential of the charges."""
    first, begin, end = _bounds(places, listed)
    receiver = first + tl.arange(0, receivers)
    inside = receiver < (first + 1 if listed else end)
    sums = tl.zeros([receivers, pairs, width], charges.dtype.element_ty)
    for start in range(begin, end, pairs):
        pair = start + tl.arange(0, pairs)
        mask = pair < end
        sender = tl.load(senders + pair, mask=mask, other=0) if listed else pair
        x = _difference(positions, offsets, receiver, sender, pair, inside, mask, 0, listed)
        y = _difference(positions, offsets, receiver, sender, pair, inside, mask, 1, listed)
        z = _difference(positions, offsets, receiver, sender, pair, inside, mask, 2, listed)
        counted = inside[:, None] & mask[None, :] & (listed | (sender[None, :] != receiver[:, None]))
        u, _, _ = _radial(tl.where(counted, x * x + y * y + z * z, 1.0), screening, coefficients)
        given = _of_channels(charges, sender, mask, channels, width)
        sums += tl.where(counted, u, 0.0)[:, :, None] * given[None, :, :]
    _store_channels(result, receiver, inside, sums, channels, width)


@triton.jit
def pair_gradients(
    received, positions, offsets, charges, senders, places, screening, of_positions, of_offsets, of_charges,
    channels: tl.constexpr, width: tl.constexpr, receivers: tl.constexpr, pairs: tl.constexpr, listed: tl.constexpr,
    coefficients: tl.constexpr, of_offsets_too: tl.constexpr,
):  # fmt: skip
    """Gradients of L for positions, offsets and charges."""
    first, begin, end = _bounds(places, listed)
    receiver = first + tl.arange(0, receivers)
    inside = receiver < (first + 1 if listed else end)
    own_charges = _of_channels(charges, receiver, inside, channels, width)
    own_received = _of_channels(received, receiver, inside, channels, width)
    sums = tl.zeros([receivers, pairs, width], charges.dtype.element_ty)
    gx = tl.zeros([receivers, pairs], charges.dtype.element_ty)
    gy, gz = gx, gx
    for start in range(begin, end, pairs):
        pair = start + tl.arange(0, pairs)
        mask = pair < end
        sender = tl.load(senders + pair, mask=mask, other=0) if listed else pair
        x = _difference(positions, offsets, receiver, sender, pair, inside, mask, 0, listed)
        y = _difference(positions, offsets, receiver, sender, pair, inside, mask, 1, listed)
        z = _difference(positions, offsets, receiver, sender, pair, inside, mask, 2, listed)
        counted = inside[:, None] & mask[None, :] & (listed | (sender[None, :] != receiver[:, None]))
        u, f, _ = _radial(tl.where(counted, x * x + y * y + z * z, 1.0), screening, coefficients)
        given = _of_channels(received, sender, mask, channels, width)
        sums += tl.where(counted, u, 0.0)[:, :, None] * given[None, :, :]
        forward = _products(own_received, _of_channels(charges, sender, mask, channels, width))
        factor = -tl.where(counted, (forward + _products(own_charges, given)) * f, 0.0)
        gx += factor * x
        gy += factor * y
        gz += factor * z
        if of_offsets_too:
            _store_pairs(of_offsets, pair, mask, forward * f * x, forward * f * y, forward * f * z)
    _store_channels(of_charges, receiver, inside, sums, channels, width)
    _store_vectors(of_positions, receiver, inside, gx, gy, gz)


@triton.jit
def pair_second(
    received, positions, offsets, charges, position_changes, offset_changes, charge_changes, senders, places, screening,
    of_received, of_positions, of_offsets, of_charges,
    channels: tl.constexpr, width: tl.constexpr, receivers: tl.constexpr, pairs: tl.constexpr, listed: tl.constexpr,
    coefficients: tl.constexpr, of_offsets_too: tl.constexpr,
):  # fmt: skip
    """Gradients of the change of L."""
    first, begin, end = _bounds(places, listed)
    receiver = first + tl.arange(0, receivers)
    inside = receiver < (first + 1 if listed else end)
    own_charges = _of_channels(charges, receiver, inside, channels, width)
    own_received = _of_channels(received, receiver, inside, channels, width)
    own_changes = _of_channels(charge_changes, receiver, inside, channels, width)
    sums = tl.zeros([receivers, pairs, width], charges.dtype.element_ty)
    others = sums
    gx = tl.zeros([receivers, pairs], charges.dtype.element_ty)
    gy, gz = gx, gx
    for start in range(begin, end, pairs):
        pair = start + tl.arange(0, pairs)
        mask = pair < end
        sender = tl.load(senders + pair, mask=mask, other=0) if listed else pair
        x = _difference(positions, offsets, receiver, sender, pair, inside, mask, 0, listed)
        y = _difference(positions, offsets, receiver, sender, pair, inside, mask, 1, listed)
        z = _difference(positions, offsets, receiver, sender, pair, inside, mask, 2, listed)
        mx = _difference(position_changes, offset_changes, receiver, sender, pair, inside, mask, 0, listed)
        my = _difference(position_changes, offset_changes, receiver, sender, pair, inside, mask, 1, listed)
        mz = _difference(position_changes, offset_changes, receiver, sender, pair, inside, mask, 2, listed)
        counted = inside[:, None] & mask[None, :] & (listed | (sender[None, :] != receiver[:, None]))
        u, f, h = _radial(tl.where(counted, x * x + y * y + z * z, 1.0), screening, coefficients)
        u, f = tl.where(counted, u, 0.0), tl.where(counted, f, 0.0)
        along = x * mx + y * my + z * mz
        bend = tl.where(counted, h * along, 0.0)
        given = _of_channels(charges, sender, mask, channels, width)
        changes = _of_channels(charge_changes, sender, mask, channels, width)
        sums += u[:, :, None] * changes[None, :, :] + (f * along)[:, :, None] * given[None, :, :]
        forward, forward_change = _products(own_received, given), _products(own_received, changes)
        given = _of_channels(received, sender, mask, channels, width)
        others += (f * along)[:, :, None] * given[None, :, :]
        both = forward + _products(own_charges, given)
        both_change = forward_change + _products(own_changes, given)
        of_vector, of_change = both_change * f + both * bend, both * f
        gx -= of_vector * x + of_change * mx
        gy -= of_vector * y + of_change * my
        gz -= of_vector * z + of_change * mz
        if of_offsets_too:
            of_vector, of_change = forward_change * f + forward * bend, forward * f
            ox, oy = of_vector * x + of_change * mx, of_vector * y + of_change * my
            _store_pairs(of_offsets, pair, mask, ox, oy, of_vector * z + of_change * mz)
    _store_channels(of_received, receiver, inside, sums, channels, width)
    _store_channels(of_charges, receiver, inside, others, channels, width)
    _store_vectors(of_positions, receiver, inside, gx, gy, gz)
