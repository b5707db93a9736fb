"""Emits the sums over a list of pairs, for some receivers at a time, in three passes over their pairs.

The first gathers what belongs to the senders, the second evaluates the radial functions, the third sums. Between them
the numbers of a few hundred pairs are in the first-level cache. The second pass, which is most of the work, knows no
receivers: no vector is partly filled, and many are under way at once.
"""

from llvmlite import ir

from mlip_kernels.coulomb_pairs.cpu_arguments import Place, share_of
from mlip_kernels.coulomb_pairs.cpu_code import (
    Atom,
    PairLayout,
    PairSums,
    difference,
    dot,
)
from mlip_kernels.coulomb_pairs.cpu_radial import Radial, ScreeningFactors, screened_functions
from mlip_kernels.coulomb_pairs.cpu_vectors import (
    gather,
    lane_numbers,
    lanes_where,
    load_numbers,
    load_triples,
    load_until,
    store_triples,
)
from mlip_kernels.simd.code import Code, Index, Indices, Reals, Vector


def emit_list(
    layout: PairLayout, of_offsets_too: bool, code: Code, arguments: Indices, task: Index, tasks: Index
) -> None:
    """A task's share of the runs of receivers."""
    sums = _ListSums(layout, of_offsets_too, code, arguments, task)
    runs = arguments.indices(Place.RUNS)
    with code.loop(*share_of(arguments.get(Place.COUNT), task, tasks)) as run:
        first, last = runs.get(run), runs.get(run + 1)
        sums.gather(first, last)
        sums.evaluate(first, last)
        sums.add_up(first, last)


class _ListSums:
    """The passes over the pairs of a run of receivers."""

    def __init__(self, layout: PairLayout, of_offsets_too: bool, code: Code, arguments: Indices, task: Index) -> None:
        self.layout = layout
        self.of_offsets_too = of_offsets_too
        self.code = code
        self.rows, self.width = arguments.reals(Place.ATOMS), arguments.get(Place.WIDTH)
        self.starts, self.senders = arguments.indices(Place.STARTS), arguments.indices(Place.SENDERS)
        self.offsets, self.offset_changes = arguments.reals(Place.OFFSETS), arguments.reals(Place.OFFSET_CHANGES)
        self.of_offsets, self.results = arguments.reals(Place.OF_OFFSETS), arguments.reals(Place.RESULTS)
        self.capacity = arguments.get(Place.CAPACITY)
        self.fields = arguments.reals(Place.SCRATCH).at(task * self.capacity * layout.fields)
        self.screening = ScreeningFactors.load(arguments.reals(Place.SCREENING))
        self.spare = code.scratch(3 * code.lanes)
        # What an atom has is read by fours, of the pairs what is needed.
        self.kept = range(3 if layout.kind == "potential" else 0, layout.width)

    def gather(self, first: Index, last: Index) -> None:
        """Differences of positions and all that belongs to the senders."""
        begin = self.starts.get(first)
        with self.code.loop(first, last) as atom:
            receiver = self._receiver(atom)
            whole, end = self._bounds(atom)
            with self.code.loop(self.starts.get(atom), whole, self.code.lanes) as edge:
                self._gather(receiver, edge, edge - begin, None)
            with self.code.when(whole.compare("<", end)):
                self._gather(receiver, whole, whole - begin, end)

    def evaluate(self, first: Index, last: Index) -> None:
        """Radial functions of all pairs; what lies beyond the last is any number."""
        width = self.layout.width
        with self.code.loop(0, self.starts.get(last) - self.starts.get(first), self.code.lanes) as place:
            radial = screened_functions(self._field(width).load(place), self.screening)
            for number, value in enumerate([radial.u, radial.minus_f, radial.h][: self.layout.derivatives]):
                self._field(width + number).store(place, value)

    def add_up(self, first: Index, last: Index) -> None:
        """Sums of each receiver, and the gradients of offsets."""
        code = self.code
        begin, padded = self.starts.get(first), -(-self.layout.results // code.lanes) * code.lanes
        with code.loop(first, last) as atom:
            sums = PairSums(code, self.layout, self._receiver(atom))
            whole, end = self._bounds(atom)
            with code.loop(self.starts.get(atom), whole, code.lanes) as edge:
                of_offset = self._add(sums, edge - begin, None)
                if self.of_offsets_too:
                    store_triples(self.of_offsets, edge, of_offset)
            with code.when(whole.compare("<", end)):
                inside = lanes_where(code, lane_numbers(code, whole), "<", end)
                of_offset = self._add(sums, whole - begin, inside)
                if self.of_offsets_too:
                    store_triples(self.spare, code.index(0), of_offset)
                    with code.loop(0, (end - whole) * 3) as number:
                        self.of_offsets.set(whole * 3 + number, self.spare.get(number))
            sums.store(self.results.at(atom * padded))

    def _gather(self, receiver: Atom, edge: Index, place: Index, end: Index | None) -> None:
        """For a vector of pairs, of which those from `end` on do not exist; the next receiver's overwrite theirs."""
        code, layout = self.code, self.layout
        numbers = load_numbers(code, self.senders, edge) if end is None else load_until(code, self.senders, edge, end)
        columns = gather(self.rows, self.width, layout.width, numbers)
        sender = Atom(layout, columns)
        vector = difference(sender.position, receiver.position, load_triples(self.offsets, edge, end))
        columns[:3] = vector
        if layout.kind == "second":
            change = load_triples(self.offset_changes, edge, end)
            columns[-3:] = difference(sender.position_change, receiver.position_change, change)
        for number in self.kept:
            self._field(number).store(place, columns[number])
        self._field(layout.width).store(place, dot(code, vector, vector))

    def _add(self, sums: PairSums, place: Index, mask: ir.Value | None) -> list[Vector]:
        width = self.layout.width
        numbers = {number: self._field(number).load(place) for number in self.kept}
        nothing = self.code.broadcast(0.0)
        sender = Atom(self.layout, [numbers.get(number, nothing) for number in range(width)])
        functions = [self._field(width + number).load(place) for number in range(self.layout.derivatives)]
        radial = Radial(*functions, *[nothing] * (3 - len(functions)))
        return sums.add(sender, sender.position, sender.position_change, radial, mask)

    def _receiver(self, atom: Index) -> Atom:
        own = self.rows.at(atom * self.width)
        return Atom(self.layout, [own.broadcast(column) for column in range(self.layout.width)])

    def _bounds(self, atom: Index) -> tuple[Index, Index]:
        """Where a receiver's whole vectors end, and its pairs."""
        first, end = self.starts.get(atom), self.starts.get(atom + 1)
        return end - (end - first) % self.code.lanes, end

    def _field(self, number: int) -> Reals:
        return self.fields.at(self.capacity * number)
