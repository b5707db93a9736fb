"""How long an algorithm takes, predicted from counts of what it does."""

from dataclasses import dataclass

# Fitted to the times of all three algorithms, see the module's docstring in `backend`.
SECONDS_PER_OPERATION = 5e-6
SECONDS_PER_FLOP = 1.2e-11
SECONDS_PER_NUMBER = 3e-10


@dataclass(frozen=True)
class Tally:
    """Counts of a product, all but the first for one row of the batch.

    Attributes:
        operations: Calls of torch that compute, whatever the batch.
        matrix_flops: Additions and multiplications in matrix products.
        elementwise_flops: Those elsewhere.
        numbers: Numbers that the calls read and write.
    """

    operations: int
    matrix_flops: int
    elementwise_flops: int
    numbers: int

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.operations + other.operations,
            self.matrix_flops + other.matrix_flops,
            self.elementwise_flops + other.elementwise_flops,
            self.numbers + other.numbers,
        )

    @property
    def flops(self) -> int:
        """Additions and multiplications of one row."""
        return self.matrix_flops + self.elementwise_flops

    def seconds(self, batch: int) -> float:
        """Predicted time of a forward product."""
        per_row = SECONDS_PER_FLOP * self.matrix_flops + SECONDS_PER_NUMBER * self.numbers
        return SECONDS_PER_OPERATION * self.operations + batch * per_row


NOTHING = Tally(0, 0, 0, 0)
