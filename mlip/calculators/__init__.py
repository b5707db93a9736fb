"""Using a trained potential: the ASE calculator and the evaluation of many structures in batches."""

from mlip.calculators.ase import MLIPCalculator

__all__ = ["MLIPCalculator"]
