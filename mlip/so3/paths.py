"""Which pairs of irreps couple to which."""

from typing import NamedTuple

from e3nn.o3 import Irrep, Irreps


class CouplingPath(NamedTuple):
    """One allowed coupling, by position in the two inputs and by the irreps involved."""

    index_in1: int
    index_in2: int
    irrep_in1: Irrep
    irrep_in2: Irrep
    irrep_out: Irrep


def coupling_paths(
    irreps_in1: Irreps | str, irreps_in2: Irreps | str, irreps_out_filter: Irreps | str
) -> list[CouplingPath]:
    """All couplings (l1, p1) × (l2, p2) → (l3, p3) that rotations and inversion allow and the filter names.

    They have |l1 − l2| ≤ l3 ≤ l1 + l2, p3 = p1 p2 and (l3, p3) among the irreps of irreps_out_filter. The order is
    that of the entries of irreps_in1, within one of them that of irreps_in2, then l3 ascending; it depends neither on
    multiplicities nor on the order of the filter.
    """
    wanted = {irrep for _, irrep in Irreps(irreps_out_filter)}
    return [
        CouplingPath(index1, index2, irrep1, irrep2, irrep_out)
        for index1, (_, irrep1) in enumerate(Irreps(irreps_in1))
        for index2, (_, irrep2) in enumerate(Irreps(irreps_in2))
        for irrep_out in irrep1 * irrep2
        if irrep_out in wanted
    ]
