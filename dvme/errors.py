"""What a researcher's input can get wrong. Every error is also a built-in, and says the next step."""


class DvmeError(Exception):
    """Base of every error that dvme raises on purpose; the command line prints it as one line."""


class DataError(DvmeError, ValueError):
    """Images, labels or a manifest that cannot be used as they are."""


class ImageError(DvmeError, ValueError):
    """One image that cannot be decoded; its row keeps the reason and the run goes on."""


class UnknownNameError(DvmeError, ValueError):
    """A backbone, head or method that does not exist."""


class WeightsError(DvmeError, OSError):
    """A checkpoint that is not here and cannot be fetched."""


class CheckpointError(DvmeError, ValueError):
    """A checkpoint whose keys or shapes do not fit the architecture."""


class EnvironmentMismatchError(DvmeError, ImportError):
    """Installed packages that do not fit together."""


class ArgumentError(DvmeError, TypeError):
    """An argument of a kind that a function does not take, such as a text for a list."""


class OptionError(DvmeError, ValueError):
    """An option's value that is not possible."""
