"""Errors a user can cause, each with one sentence that states the fact, the offending value and the remedy.

The command line prints that sentence and exits with code 2; nothing else is shown for these unless `--debug` is given.
"""


class MLIPError(Exception):
    """Base class of every error that is the user's to mend."""


class ConfigError(MLIPError, ValueError):
    """A configuration holds an unknown key, a value of the wrong type, or choices that contradict each other."""


class DataError(MLIPError, ValueError):
    """A data file or store cannot be read, or its labels are missing, misshapen or not finite."""


class StructureError(MLIPError, ValueError):
    """A structure is unphysical: NaN positions, coinciding atoms, a periodic cell without volume."""


class UnknownElementError(StructureError):
    """A structure holds a chemical element that the model was not built for."""


class ModelFileError(MLIPError, ValueError):
    """A model file or training checkpoint is damaged, of another kind, or of a version that cannot be read."""


class CheckpointError(MLIPError, ValueError):
    """A checkpoint of another package is damaged, or holds what is not allowed or has no counterpart here."""


class TrainingError(MLIPError, ValueError):
    """Training cannot start or go on, for example because the loss is not a number."""


class FileMissingError(MLIPError, FileNotFoundError):
    """A file that was asked for does not exist."""
