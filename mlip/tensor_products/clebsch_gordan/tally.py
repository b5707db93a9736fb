"""How long an algorithm takes, predicted from counts of what it does.

The rates were fitted (least squares of logarithms) to the CPU times of 284 products by all three algorithms: one thread
of an Intel Xeon with AVX-512 at 2.6 GHz, torch 2.13 with MKL, float32, degrees 0 to 5, 1 to 2000 rows, 16 to 64
channels, with and without weights, forward only, the shortest of at least 5 runs of each. Predictions are off by a
factor of 1.5 (root mean square). In a second set of timings the algorithm that they choose took 1.02 times the time of
the fastest on the average, more than 1.5 times for 2 products, and 1.66 times at worst. Another machine has other
rates, but only their ratios matter for the choice.
"""

from dataclasses import dataclass

SECONDS_PER_OPERATION = 1.5e-6
SECONDS_PER_PRODUCT = 7e-8
SECONDS_PER_FLOP = 9.5e-12
SECONDS_PER_LOOPED_FLOP = 4e-10
SECONDS_PER_NUMBER = 1.2e-10
SECONDS_PER_FRESH_NUMBER = 1.6e-9
# Torch multiplies matrices by loops of its own where a product has fewer multiplications, and otherwise calls BLAS.
BLAS_FROM = 400
# Larger temporaries, in numbers, are mapped anew for each call: 32 MiB of float32, the limit of glibc's allocator.
FRESH_FROM = 2**23


@dataclass(frozen=True)
class Tally:
    """Counts of a product, all but the first for one row of the batch.

    Attributes:
        operations: Calls of torch, views and those that a matrix product makes itself included, whatever the batch.
        products: Matrix products by BLAS in which each row has matrices of its own.
        matrix_flops: Additions and multiplications by BLAS.
        looped_flops: Those in matrix products too small for BLAS.
        elementwise_flops: Those elsewhere.
        numbers: Numbers that the calls read and write.
        temporary: Numbers of the largest tensor that is formed on the way, if it can exceed operands and result.
    """

    operations: int
    products: int = 0
    matrix_flops: int = 0
    looped_flops: int = 0
    elementwise_flops: int = 0
    numbers: int = 0
    temporary: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.operations + other.operations,
            self.products + other.products,
            self.matrix_flops + other.matrix_flops,
            self.looped_flops + other.looped_flops,
            self.elementwise_flops + other.elementwise_flops,
            self.numbers + other.numbers,
            max(self.temporary, other.temporary),
        )

    @property
    def flops(self) -> int:
        """Additions and multiplications of one row."""
        return self.matrix_flops + self.looped_flops + self.elementwise_flops

    def seconds(self, batch: int) -> float:
        """Predicted time of a forward product."""
        per_row = (
            SECONDS_PER_PRODUCT * self.products
            + SECONDS_PER_FLOP * self.matrix_flops
            + SECONDS_PER_LOOPED_FLOP * self.looped_flops
            + SECONDS_PER_NUMBER * self.numbers
        )
        if batch * self.temporary > FRESH_FROM:
            per_row += SECONDS_PER_FRESH_NUMBER * self.temporary
        return SECONDS_PER_OPERATION * self.operations + batch * per_row


def tally_of_products(rows: int, contraction: int, channels: int) -> Tally:
    """Counts of batched products `[rows, contraction] @ [contraction, channels]`."""
    multiplications = rows * contraction * channels
    numbers = rows * contraction + (rows + contraction) * channels
    if multiplications < BLAS_FROM:
        return Tally(4, looped_flops=2 * multiplications, numbers=numbers)
    return Tally(4, products=1, matrix_flops=2 * multiplications, numbers=numbers)
