"""Sums over the lanes of vectors."""

from mlip_kernels.simd.code import Real, Vector


class LaneSums:
    """Sums of the lanes of up to as many vectors as there are lanes, in one vector.

    Vectors are combined as soon as their partner is there, by two shuffles and an addition, so that few are alive at a
    time and `lanes - 1` steps do for `lanes` vectors. Lane k of the result is the sum of the vector number k.
    """

    def __init__(self) -> None:
        self._partial: dict[tuple[int, int], Vector] = {}

    def add(self, number: int, vector: Vector) -> None:
        """Take in the vector with this number."""
        size = 1
        while size < vector.code.lanes:
            partner = self._partial.pop((number ^ size, size), None)
            if partner is None:
                break
            vector = _combined(vector, partner, size) if number & size == 0 else _combined(partner, vector, size)
            number &= ~size
            size *= 2
        self._partial[number, size] = vector

    def result(self) -> Vector:
        """The sums, zero in the lanes of numbers that were never added."""
        code = next(iter(self._partial.values())).code
        size = 1
        while size < code.lanes:
            for number, kind in [key for key in self._partial if key[1] == size]:
                if (number, kind) in self._partial:
                    vector = self._partial.pop((number, kind))
                    partner = self._partial.pop((number ^ size, size), code.broadcast(0.0))
                    first, second = (vector, partner) if number & size == 0 else (partner, vector)
                    self._partial[number & ~size, 2 * size] = _combined(first, second, size)
            size *= 2
        return self._partial[0, code.lanes]


def lane_sum(vector: Vector) -> Real:
    """Sum of the lanes of one vector."""
    size = vector.code.lanes // 2
    while size:
        lanes = [lane ^ size for lane in range(vector.code.lanes)]
        vector = vector + vector.shuffled(vector, lanes)
        size //= 2
    return vector.lane(0)


def _combined(first: Vector, second: Vector, size: int) -> Vector:
    """Sums of neighbouring groups of `size` lanes, those of the first vector in even groups, of the second in odd."""
    lanes = first.code.lanes
    even = [lane if (lane // size) % 2 == 0 else lanes + lane - size for lane in range(lanes)]
    odd = [lane + size if (lane // size) % 2 == 0 else lanes + lane for lane in range(lanes)]
    return first.shuffled(second, even) + first.shuffled(second, odd)
