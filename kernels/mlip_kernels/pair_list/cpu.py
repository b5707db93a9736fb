# mypy: disable-error-code="no-untyped-def, assignment"
"""The search by a grid of cubes in Numba.

Points are wrapped into the periodic cell, and images of them within the cutoff of it are points too, so that the search
itself knows no periodicity. Points are sorted by the cubes of a grid, those along x one after another: what may be near
a receiver lies in runs of cubes, one for each (y, z), as long as the sphere is wide there.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlip_kernels.pair_list.found import FoundPairs
from mlip_kernels.simd.notice import notice_of_compiling

# Cubes in a cutoff: with finer ones, runs fit the sphere better, but there are more of them.
_FINENESS = 1.5
# Of a sparse system most cubes are empty: there may be so many for each point, and in any case.
_CUBES_PER_POINT, _FEW_CUBES = 4, 512
# By so much more is searched than is kept, relative to the cutoff: what is at the cutoff is lost nowhere by rounding.
_MARGIN = 1e-9
# Numbers of pairs are guessed for a uniform density; more room is made where it is needed.
_ROOM = 1.3


def find_pairs(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> FoundPairs:
    """The function of `search.find_pairs`, with zeros as vectors of open directions."""
    count = len(positions)
    if count == 0:
        none = np.zeros(0, np.int64)
        return FoundPairs(np.zeros(1, np.int64), none, np.zeros((0, 3), np.int32), np.zeros((0, 3)), math.inf, (0, 0))
    periodic = np.flatnonzero(pbc)
    inverse = np.linalg.pinv(cell[periodic])  # From positions to coordinates, [3, periodic].
    coordinates = np.zeros((count, 3))
    coordinates[:, periodic] = positions @ inverse
    wrapped = np.floor(coordinates)
    # Heights of the cell are the inverse lengths of the reciprocal vectors.
    reach = np.zeros(3)
    reach[periodic] = (1 + _MARGIN) * cutoff * np.linalg.norm(inverse, axis=0) + _MARGIN
    inside, vectors = _exact(positions - wrapped @ cell, cell, reach, cutoff)
    points, images = _with_images(inside, coordinates - wrapped, vectors, reach, (1 + _MARGIN) * cutoff)
    width, shape = _grid(points.max(0), len(points), cutoff)
    starts, order = _sorted(points, 1.0 / width, shape)
    ordered = np.ascontiguousarray(points[order].T)
    room = _ROOM * count * len(points) * min(1.0, 4.2 * cutoff**3 / (width**3 * float(np.prod(shape))))
    near, degrees = _near(points[:count], ordered, starts, width, shape, cutoff, int(room) + 1024)
    found = _fill(near, degrees, order, ordered, images, wrapped.astype(np.int32), cell)
    pair_starts, senders, shifts, offsets, square, first, second = found
    return FoundPairs(pair_starts, senders, shifts, offsets, math.sqrt(square), (first, second))


@cache
def prepare() -> None:
    """Compile the search, and say so, or load what an earlier process compiled."""
    with notice_of_compiling("The search of near pairs.", Path(__file__)):
        find_pairs(np.zeros((1, 3)), np.eye(3), np.ones(3, dtype=bool), 1.5)


def _exact(
    inside: NDArray[np.float64], cell: NDArray[np.float64], reach: NDArray[np.float64], cutoff: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and cell vectors, rounded so that images of points and their differences are exact.

    Then a pair and its reverse are exactly as long, and the cutoff keeps both or none. Numbers become multiples of a
    power of two, the largest one up to 2⁵¹ of them. Without images there is nothing to round.
    """
    if not cell.any():
        return inside, cell
    largest = np.abs(inside).max() + np.ceil(reach) @ np.abs(cell).max(1) + cutoff
    unit = 2.0 ** (np.ceil(np.log2(largest)) - 51)
    return np.round(inside / unit) * unit, np.round(cell / unit) * unit


def _grid(highest: NDArray[np.float64], points: int, cutoff: float) -> tuple[float, NDArray[np.int64]]:
    """Width of the cubes, and their numbers along x, y and z, for points between 0 and `highest`."""
    width = cutoff / _FINENESS
    while True:
        shape = highest // width + 1
        if shape.prod() <= max(_FEW_CUBES, _CUBES_PER_POINT * points):
            return width, shape.astype(np.int64)
        width *= 1.5


@njit(cache=True, nogil=True)
def _with_images(wrapped, coordinates, cell, reach, cutoff):
    """Points and their images within the cutoff of the cell, [points, 3], and these as (point, shift), [points, 4].

    The points themselves come first. All are moved so that none has a negative coordinate.
    """
    count = len(wrapped)
    limits = np.ceil(reach).astype(np.int64)
    lowest, highest = np.empty(3), np.empty(3)
    for axis in range(3):
        lowest[axis], highest[axis] = wrapped[:, axis].min() - cutoff, wrapped[:, axis].max() + cutoff
    total = count
    points, images = np.empty((0, 3)), np.empty((0, 4), np.int32)
    # They are counted, and written.
    for write in range(2):
        if write:
            points, images = np.empty((total, 3)), np.empty((total, 4), np.int32)
            for point in range(count):
                points[point] = wrapped[point]
                images[point, 0], images[point, 1:] = point, 0
        total = count
        for a in range(-limits[0], limits[0] + 1):
            for b in range(-limits[1], limits[1] + 1):
                for c in range(-limits[2], limits[2] + 1):
                    if a == 0 and b == 0 and c == 0:
                        continue
                    x = a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
                    y = a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
                    z = a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
                    for point in range(count):
                        u, v, w = coordinates[point, 0] + a, coordinates[point, 1] + b, coordinates[point, 2] + c
                        if not (-reach[0] <= u <= 1 + reach[0] and -reach[1] <= v <= 1 + reach[1]):
                            continue
                        px, py, pz = wrapped[point, 0] + x, wrapped[point, 1] + y, wrapped[point, 2] + z
                        if not (lowest[0] <= px <= highest[0] and lowest[1] <= py <= highest[1]):
                            continue
                        if -reach[2] <= w <= 1 + reach[2] and lowest[2] <= pz <= highest[2]:
                            if write:
                                points[total, 0], points[total, 1], points[total, 2] = px, py, pz
                                images[total, 0], images[total, 1] = point, a
                                images[total, 2], images[total, 3] = b, c
                            total += 1
    for axis in range(3):
        points[:, axis] -= points[:, axis].min()
    return points, images


@njit(cache=True, nogil=True)
def _cube_of(coordinate, inverse, count):
    """Number of the cube that a coordinate is in, or of the nearest one."""
    return min(max(int(coordinate * inverse), 0), count - 1)


@njit(cache=True, nogil=True)
def _sorted(points, inverse, shape):
    """First place of each cube, and the number of points; and the points in the order of cubes."""
    cubes = np.empty(len(points), np.int64)
    starts = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for point in range(len(points)):
        x = _cube_of(points[point, 0], inverse, shape[0])
        y = _cube_of(points[point, 1], inverse, shape[1])
        z = _cube_of(points[point, 2], inverse, shape[2])
        cubes[point] = (z * shape[1] + y) * shape[0] + x
        starts[cubes[point] + 1] += 1
    for each in range(1, len(starts)):
        starts[each] += starts[each - 1]
    places, order = starts[:-1].copy(), np.empty(len(points), np.int32)
    for point in range(len(points)):
        order[places[cubes[point]]] = point
        places[cubes[point]] += 1
    return starts, order


@njit(cache=True, nogil=True)
def _near(receivers, ordered, starts, width, shape, cutoff, room):
    """Places of the points near each receiver, itself included, one receiver after another, and their numbers."""
    limit, inverse = cutoff * cutoff, 1.0 / width
    reach = cutoff * (1.0 + _MARGIN)
    near = np.empty(room, np.int32)
    degrees = np.zeros(len(receivers), np.int64)
    xs, ys, zs = ordered[0], ordered[1], ordered[2]
    # Numba counts negative indices from the end, which takes time where it cannot see that there are none.
    end = np.uint64(0)
    for receiver in range(len(receivers)):
        x, y, z = receivers[receiver, 0], receivers[receiver, 1], receivers[receiver, 2]
        begin = end
        first_y, last_y = _cube_of(y - reach, inverse, shape[1]), _cube_of(y + reach, inverse, shape[1])
        for cube_z in range(_cube_of(z - reach, inverse, shape[2]), _cube_of(z + reach, inverse, shape[2]) + 1):
            distance = max(cube_z * width - z, z - (cube_z + 1) * width, 0.0)
            left_by_z = reach * reach - distance * distance
            for cube_y in range(first_y, last_y + 1):
                distance = max(cube_y * width - y, y - (cube_y + 1) * width, 0.0)
                left = left_by_z - distance * distance
                if left < 0.0:
                    continue
                half = math.sqrt(left)
                row = (cube_z * shape[1] + cube_y) * shape[0]
                first = np.uint64(starts[row + _cube_of(x - half, inverse, shape[0])])
                last = np.uint64(starts[row + _cube_of(x + half, inverse, shape[0]) + 1])
                if end + last - first > np.uint64(len(near)):
                    larger = np.empty(2 * len(near) + len(ordered[0]), np.int32)
                    larger[:end] = near[:end]
                    near = larger
                for place in range(first, last):
                    dx, dy, dz = xs[place] - x, ys[place] - y, zs[place] - z
                    # Written in any case, and kept or not: there is no branch to predict.
                    near[end] = np.int32(place)
                    end += np.uint64(dx * dx + dy * dy + dz * dz < limit)
        degrees[receiver] = np.int64(end - begin)
    return near, degrees


@njit(cache=True, nogil=True)
def _fill(near, degrees, order, ordered, images, wrapped, cell):
    """First pair of each receiver, senders, shifts and offsets, the least squared distance, and its pair."""
    count = len(degrees)
    starts = np.zeros(count + 1, np.int64)
    for receiver in range(count):
        # Less itself.
        starts[receiver + 1] = starts[receiver] + degrees[receiver] - 1
    pairs = starts[count]
    senders, shifts, offsets = np.empty(pairs, np.int64), np.empty(3 * pairs, np.int32), np.empty(3 * pairs)
    # What belongs to the points in the order in which they are found, and where the receivers are in it.
    sender_of, a_of, b_of, c_of = np.empty((4, len(order)), np.int32)
    place_of = np.empty(count, np.int32)
    for found in range(len(order)):
        point = order[found]
        sender = images[point, 0]
        sender_of[found] = sender
        a_of[found] = images[point, 1] - wrapped[sender, 0]
        b_of[found] = images[point, 2] - wrapped[sender, 1]
        c_of[found] = images[point, 3] - wrapped[sender, 2]
        if point < count:
            place_of[point] = found
    least, first, second = np.inf, 0, 0
    xs, ys, zs = ordered[0], ordered[1], ordered[2]
    place, pair, step = np.uint64(0), np.uint64(0), np.uint64(1)
    for receiver in range(count):
        own = np.uint64(place_of[receiver])
        x, y, z = xs[own], ys[own], zs[own]
        a0, b0, c0 = wrapped[receiver, 0], wrapped[receiver, 1], wrapped[receiver, 2]
        for _ in range(degrees[receiver]):
            found = np.uint64(near[place])
            place += step
            if found == own:
                continue
            a, b, c = a_of[found] + a0, b_of[found] + b0, c_of[found] + c0
            senders[pair] = sender_of[found]
            row = pair + pair + pair
            shifts[row], shifts[row + step], shifts[row + step + step] = a, b, c
            offsets[row] = a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
            offsets[row + step] = a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
            offsets[row + step + step] = a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
            pair += step
            dx, dy, dz = xs[found] - x, ys[found] - y, zs[found] - z
            square = dx * dx + dy * dy + dz * dz
            if square < least:
                least, first, second = square, receiver, np.int64(sender_of[found])
    return starts, senders, shifts.reshape(-1, 3), offsets.reshape(-1, 3), least, first, second
