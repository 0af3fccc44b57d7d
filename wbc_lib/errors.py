"""The errors a user may meet; each message names the thing and the remedy."""


class WbcError(Exception):
    """Base of all errors that the command line prints as one sentence."""


class DataNotFoundError(WbcError):
    """The data set is nowhere to be found."""


class BadDataError(WbcError):
    """A file of the data set cannot be read as what it should be."""


class UnknownNameError(WbcError):
    """An experiment, profile or run was asked for by a name that nobody has."""


class RunError(WbcError):
    """A recorded run is damaged, or a new one cannot be recorded."""


class WeightsError(WbcError):
    """Pretrained weights are missing or are not the ones they should be."""


class BookError(WbcError):
    """A chapter failed, or the pages could not be built."""


class LabError(WbcError):
    """The chapters cannot be laid out to work in, or JupyterLab cannot be started."""
