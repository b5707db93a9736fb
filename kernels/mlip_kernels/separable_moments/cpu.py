"""The maps between particles and coefficient tensors on the CPU, as compiled programs.

Tasks share out the columns of the tensors on the way there, and the particles on the way back: no two write the same
numbers, and every number is a sum in one order, which does not depend on the tasks.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip_kernels.separable_moments.cpu_code import (
    Panel,
    Particle,
    Reduction,
    copy,
    define_product,
    reduce,
    spread,
)
from mlip_kernels.simd.code import Code, Index, Indices, RealType
from mlip_kernels.simd.program import Program
from mlip_kernels.simd.target import host_target

_REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}
# Columns of a panel, and bytes of a run of particles' rows of it.
_MOMENT_COLUMNS, _COLUMNS, _RUN_BYTES = 128, 512, 1 << 16
_REDUCTIONS: tuple[Reduction, ...] = ("values", "gradients", "last")
# Tasks of each thread, and multiply-adds below which one task does all.
_TASKS, _FEW_PRODUCTS = 4, 200_000


class _Place(IntEnum):
    """Place of each argument of the program.

    Which FORM; CHANNELS, values of the three axes, PANELS and particles of a RUN; CHARGES, factors of the three axes
    and TENSOR; SCRATCH, and the SHARE that a task has of it. COUNT structures with STARTS, or runs of particles with
    their STRUCTURES, STARTS and ENDS, and what the gradients are added to.
    """

    FORM = 0
    CHANNELS = 1
    RA = 2
    RB = 3
    RC = 4
    PANELS = 5
    RUN = 6
    CHARGES = 7
    X = 8
    Y = 9
    Z = 10
    TENSOR = 11
    SCRATCH = 12
    SHARE = 13
    COUNT = 14
    STRUCTURES = 15
    STARTS = 16
    ENDS = 17
    OF_CHARGES = 18
    OF_Y = 19
    OF_Z = 20


def moments(charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    """The function of `reference.moments`."""
    structures = len(starts) - 1
    result = x.new_empty(structures, charges.shape[1], x.shape[1], y.shape[1], z.shape[1])
    plan = _Plan.of(x, y, z, _MOMENT_COLUMNS)
    share = plan.run * plan.stride + x.shape[1] * plan.stride
    tasks = plan.tasks(len(x) * charges.shape[1], structures * charges.shape[1] * plan.panels)
    scratch = x.new_zeros(tasks * share)
    operands = [charges.contiguous(), x.contiguous(), y.contiguous(), plan.padded(z), result, scratch]
    lists: list[int | Tensor] = [share, structures, 0, starts.contiguous()]
    _program(_REALS[x.dtype])([0, charges.shape[1], *plan.sizes, *operands, *lists], tasks)
    return result


def evaluation(tensor: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    """The function of `reference.evaluation`."""
    charges = x.new_zeros(len(x), tensor.shape[1])
    return _contract("values", tensor, charges, x, y, z, starts)[0]


def gradients(
    tensor: Tensor, charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The function of `reference.gradients`."""
    of_charges, of_y, of_z = _contract("gradients", tensor, charges, x, y, z, starts)
    _, _, of_x = _contract("last", tensor.permute(0, 1, 4, 3, 2), charges, z, y, x, starts)
    return of_charges, of_x, of_y, of_z


@dataclass(frozen=True)
class _Plan:
    """How work is cut: panels of columns, and runs of particles.

    Attributes:
        ranks: Values of the three axes.
        panels: Number of panels.
        stride: Numbers of a row of the largest panel.
        run: Particles at a time.
        lanes: Numbers of a vector.
    """

    ranks: tuple[int, int, int]
    panels: int
    stride: int
    run: int
    lanes: int

    @staticmethod
    def of(x: Tensor, y: Tensor, z: Tensor, columns: int) -> "_Plan":
        lanes = host_target().lanes(_REALS[x.dtype])
        middle, inner = y.shape[1], z.shape[1]
        panels = -(-middle // max(1, columns // max(1, inner)))
        stride = (-(-(-(-middle // panels) * inner) // lanes) + 1) * lanes
        # Whole tiles of the matrix product.
        run = max(6, _RUN_BYTES // x.dtype.itemsize // stride // 6 * 6)
        return _Plan((x.shape[1], middle, inner), panels, stride, run, lanes)

    @property
    def sizes(self) -> tuple[int, ...]:
        return *self.ranks, self.panels, self.run

    def padded(self, factors: Tensor) -> Tensor:
        """Rows filled up to whole vectors by zeros."""
        return torch.nn.functional.pad(factors, (0, -factors.shape[1] % self.lanes)).contiguous()

    def tasks(self, particles: int, items: int) -> int:
        ra, rb, rc = self.ranks
        few = particles * ra * rb * rc < _FEW_PRODUCTS
        return 1 if few else max(1, min(items, _TASKS * torch.get_num_threads()))


def _contract(
    reduction: Reduction, tensor: Tensor, charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Contract tensors with the factors of the first axis; gradients of charges, second and third factors."""
    plan = _Plan.of(x, y, z, _COLUMNS)
    third = plan.padded(z)
    of_charges, of_y, of_z = (
        torch.zeros_like(each, memory_format=torch.contiguous_format) for each in (charges, y, third)
    )
    runs = _runs(starts.numpy(), plan.run)
    tasks = plan.tasks(len(x) * charges.shape[1], len(runs[0]))
    share = plan.run * plan.stride
    scratch = x.new_zeros(tasks * share)
    # A vector is read from any column on, and what comes with it must be finite.
    rows = torch.nn.functional.pad(tensor.flatten(3), (0, plan.lanes))
    operands = [charges.contiguous(), x.contiguous(), y.contiguous(), third, rows, scratch]
    lists: list[int | Tensor] = [share, len(runs[0]), *(each.ctypes.data for each in runs), of_charges, of_y, of_z]
    form = 1 + _REDUCTIONS.index(reduction)
    _program(_REALS[x.dtype])([form, charges.shape[1], *plan.sizes, *operands, *lists], tasks)
    return of_charges, of_y, of_z[:, : z.shape[1]].contiguous()


def _runs(starts: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], ...]:
    """Runs of about equally many particles, `length` at most, of one structure each: structures, begins and ends."""
    counts = np.diff(starts)
    runs = -(-counts // length)
    structures = np.repeat(np.arange(len(counts)), runs)
    number = np.arange(len(structures)) - (np.cumsum(runs) - runs)[structures]
    begin, count, of_structure = starts[:-1][structures], counts[structures], runs[structures]
    return structures, begin + number * count // of_structure, begin + (number + 1) * count // of_structure


@cache
def _program(real: RealType) -> Program:
    return Program("Separable moments and contractions with them.", "separable_moments", real, [_emit])


def _emit(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
    """A task's share of the map that is asked for."""
    define_product(code)
    form = arguments.get(_Place.FORM)
    with code.when(form.compare("==", 0)):
        _emit_moments(code, arguments, task, tasks)
    with code.when(form.compare(">", 0)):
        _emit_contraction(code, arguments, task, tasks)


def _emit_moments(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
    """A task's share of the panels of all structures and channels."""
    channels, ra, rb, rc, panels = (
        arguments.get(place) for place in (_Place.CHANNELS, _Place.RA, _Place.RB, _Place.RC, _Place.PANELS)
    )
    charges, x, y, z = (arguments.reals(place) for place in (_Place.CHARGES, _Place.X, _Place.Y, _Place.Z))
    run, starts, padded = arguments.get(_Place.RUN), arguments.indices(_Place.STARTS), _whole(rc, code.lanes)
    rows = arguments.reals(_Place.SCRATCH).at(task * arguments.get(_Place.SHARE))
    items = arguments.get(_Place.COUNT) * channels * panels
    with code.loop((task * items) // tasks, ((task + 1) * items) // tasks) as item:
        number, owner = item % panels, item // panels
        structure, channel = owner // channels, owner % channels
        panel = Panel(number * rb // panels, (number + 1) * rb // panels, rc)
        vectors, stride = panel.vectors(code.lanes), panel.stride(code.lanes)
        totals = rows.at(run * stride)
        totals.clear(ra * stride)
        end = starts.get(structure + 1)
        with code.loop(starts.get(structure), end, run) as first:
            count = (end - first).least(run)
            with code.loop(0, count) as place:
                particle = first + place
                charge = charges.at(particle * channels + channel)
                spread(code, panel, y.at(particle * rb), z.at(particle * padded), charge, rows.at(place * stride))
            code.call("product", x.at(first * ra), 1, ra, rows, stride, totals, stride, ra, count, vectors, 1)
        with code.loop(0, ra) as row:
            target = arguments.reals(_Place.TENSOR).at(((owner * ra + row) * rb + panel.first) * rc)
            copy(code, totals.at(row * stride), target, panel.columns)


def _emit_contraction(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
    """A task's share of the runs of particles."""
    channels, ra, rb, rc, panels = (
        arguments.get(place) for place in (_Place.CHANNELS, _Place.RA, _Place.RB, _Place.RC, _Place.PANELS)
    )
    tensor, x, padded = arguments.reals(_Place.TENSOR), arguments.reals(_Place.X), _whole(rc, code.lanes)
    rows = arguments.reals(_Place.SCRATCH).at(task * arguments.get(_Place.SHARE))
    runs, form = arguments.get(_Place.COUNT), arguments.get(_Place.FORM)
    with (
        code.loop((task * runs) // tasks, ((task + 1) * runs) // tasks) as run,
        code.loop(0, channels) as channel,
        code.loop(0, panels) as number,
    ):
        first, last = (arguments.indices(place).get(run) for place in (_Place.STARTS, _Place.ENDS))
        owner = arguments.indices(_Place.STRUCTURES).get(run) * channels + channel
        panel = Panel(number * rb // panels, (number + 1) * rb // panels, rc)
        stride = panel.stride(code.lanes)
        length = rb * rc + code.lanes
        matrix = tensor.at(owner * ra * length + panel.first * rc)
        vectors, count = panel.vectors(code.lanes), last - first
        code.call("product", x.at(first * ra), ra, 1, matrix, length, rows, stride, count, ra, vectors, 0)
        with code.loop(0, count) as place:
            atom = first + place
            charge = atom * channels + channel
            particle = Particle(
                arguments.reals(_Place.Y).at(atom * rb),
                arguments.reals(_Place.Z).at(atom * padded),
                arguments.reals(_Place.CHARGES).at(charge),
                arguments.reals(_Place.OF_Y).at(atom * rb),
                arguments.reals(_Place.OF_Z).at(atom * padded),
                arguments.reals(_Place.OF_CHARGES).at(charge),
            )
            for kind, reduction in enumerate(_REDUCTIONS, 1):
                with code.when(form.compare("==", kind)):
                    reduce(code, reduction, panel, rows.at(place * stride), particle)


def _whole(count: Index, lanes: int) -> Index:
    """Rounded up to whole vectors."""
    return (count + lanes - 1) // lanes * lanes
