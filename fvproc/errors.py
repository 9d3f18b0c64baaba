"""The few exceptions fvproc raises on purpose; each message names file, field, value and remedy."""


class FvprocError(Exception):
    """Base of every error that a user's input can cause."""


class FileFormatError(FvprocError):
    """A file cannot be read: unknown format, truncated, or contradicting itself."""


class CalibrationError(FvprocError):
    """A calibration value is missing, not finite or not positive."""


class RecipeError(FvprocError):
    """A recipe holds an unknown name, a value out of range, or lacks what the job needs."""


class OutputError(FvprocError):
    """An output cannot be created, or one that exists must not be overwritten."""


class KernelError(FvprocError):
    """The arrays given to the compiled kernel break its contract: a bug in the caller."""
