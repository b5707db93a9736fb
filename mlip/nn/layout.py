"""How features of several irreps lie in one tensor.

Features are `[nodes, columns]`; the columns hold one irrep after another, each `[2*l+1, channels]` with the channel
last and contiguous (e3nn's `ir_mul`), so that kernels run along channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from mlip.errors import ConfigError


@dataclass(frozen=True)
class Block:
    """The columns of one irrep: `offset` up to `offset + dim * channels`, viewed as [dim, channels]."""

    irrep: Irrep
    channels: int
    offset: int

    @property
    def dim(self) -> int:
        """Components 2*l+1 of the irrep."""
        return int(self.irrep.dim)

    def of(self, features: Tensor) -> Tensor:
        """View of the block in `features` [nodes, columns], as [nodes, 2*l+1, channels]."""
        columns = features[:, self.offset : self.offset + self.dim * self.channels]
        return columns.unflatten(1, (self.dim, self.channels))


def canonical_irreps(irreps: Irreps | str) -> Irreps:
    """Sort irreps and join equal ones, so that each irrep stands once.

    Raises:
        ConfigError: the string is no list of irreps.
    """
    try:
        parsed = Irreps(irreps)
    except (ValueError, IndexError):
        raise ConfigError(f"'{irreps}' is no list of irreps; write for example '64x0e+64x1o'.") from None
    joined = parsed.sort().irreps.simplify()
    return Irreps([(channels, irrep) for channels, irrep in joined if channels > 0])


def blocks(irreps: Irreps) -> Iterator[Block]:
    """Blocks of canonical irreps, in order."""
    offset = 0
    for channels, irrep in irreps:
        yield Block(irrep, channels, offset)
        offset += channels * irrep.dim


def natural_irreps(channels: int, l_max: int, parity: int = -1) -> Irreps:
    """Irreps of degree 0 to l_max with the parity (-1)^l of the spherical harmonics, `channels` of each.

    With `parity=1` all are even: what harmonics are where only rotations count.
    """
    return Irreps([(channels, (degree, parity**degree)) for degree in range(l_max + 1)])
