"""Arguments of the programs of pair sums."""

from enum import IntEnum, auto

from mlip_kernels.simd.code import Index


class Place(IntEnum):
    """Place of each argument.

    COUNT runs of receivers or structures; STARTS of the receivers' pairs, or of the structures; numbers of ATOMS, of
    which there are WIDTH in a row, or a column; RESULTS. Of a list also the first receiver of each of the RUNS, the
    SENDERS, factors of the SCREENING, OFFSETS with their changes and gradients, and SCRATCH for CAPACITY pairs.
    """

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count

    COUNT = auto()
    STARTS = auto()
    ATOMS = auto()
    WIDTH = auto()
    RESULTS = auto()
    RUNS = auto()
    SENDERS = auto()
    SCREENING = auto()
    OFFSETS = auto()
    OFFSET_CHANGES = auto()
    OF_OFFSETS = auto()
    SCRATCH = auto()
    CAPACITY = auto()


def share_of(count: Index, task: Index, tasks: Index) -> tuple[Index, Index]:
    """First and last of a task's share."""
    return (task * count) // tasks, ((task + 1) * count) // tasks
