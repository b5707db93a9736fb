"""Emits the sums over all atoms of a structure, for a few receivers at a time, which share what is read of senders."""

from mlip_kernels.coulomb_pairs.cpu_arguments import Place, share_of
from mlip_kernels.coulomb_pairs.cpu_code import Atom, PairLayout, PairSums, difference, dot
from mlip_kernels.coulomb_pairs.cpu_radial import bare_functions
from mlip_kernels.coulomb_pairs.cpu_vectors import lane_numbers, lanes_where, select
from mlip_kernels.simd.code import Code, Index, Indices
from mlip_kernels.simd.target import host_target


def emit_structures(layout: PairLayout, code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
    """A task's share of the receivers, in tiles of one structure."""
    starts = arguments.indices(Place.STARTS)
    structures = arguments.get(Place.COUNT)
    own_first, own_last = share_of(starts.get(structures), task, tasks)
    height = _tile_height(layout)
    with code.loop(0, structures) as structure:
        begin, end = starts.get(structure), starts.get(structure + 1)
        first, last = begin.most(own_first), end.least(own_last)
        whole = first + (last - first).most(0) // height * height
        with code.loop(first, whole, height) as atom:
            _emit_tile(layout, code, arguments, atom, height, begin, end)
        if height > 1:
            with code.loop(whole, last) as atom:
                _emit_tile(layout, code, arguments, atom, 1, begin, end)


def _emit_tile(
    layout: PairLayout, code: Code, arguments: Indices, atom: Index, height: int, begin: Index, end: Index
) -> None:
    """Sums of a few receivers over their structure."""
    table, column = arguments.reals(Place.ATOMS), arguments.get(Place.WIDTH)
    columns = [table.at(column * number) for number in range(layout.width)]
    results = -(-layout.results // code.lanes) * code.lanes
    receivers = [atom + number for number in range(height)]
    sums = [
        PairSums(code, layout, Atom(layout, [each.broadcast(receiver) for each in columns])) for receiver in receivers
    ]

    def add(start: Index, stop: Index, masked: bool) -> None:
        with code.loop(start, stop, code.lanes) as place:
            sender = Atom(layout, [each.load(place) for each in columns])
            numbers = lane_numbers(code, place)
            inside = lanes_where(code, numbers, "<", end)
            for receiver, total in zip(receivers, sums, strict=True):
                other = lanes_where(code, numbers, "!=", receiver)
                mask = code.builder.and_(inside, other) if masked else None
                vector = difference(sender.position, total.receiver.position)
                square = dot(code, vector, vector)
                radial = bare_functions(square if mask is None else select(mask, square, 1.0))
                moved = difference(sender.position_change, total.receiver.position_change)
                total.add(sender, vector, moved, radial, mask)

    # Vectors with a receiver among their atoms, and the last one if it is not full, are masked.
    low = atom - (atom - begin) % code.lanes
    high = receivers[-1] - (receivers[-1] - begin) % code.lanes + code.lanes
    whole = end - (end - begin) % code.lanes
    add(begin, low, False)
    add(low, high, True)
    add(high, whole, False)
    add(high.most(whole), end, True)
    for receiver, total in zip(receivers, sums, strict=True):
        total.store(arguments.reals(Place.RESULTS).at(receiver * results))


def _tile_height(layout: PairLayout) -> int:
    """Receivers whose numbers and sums stay in registers beside a vector of senders and the constants of a root."""
    free = host_target().vector_registers - layout.width - 8
    return max(1, free // (layout.width + layout.results))
