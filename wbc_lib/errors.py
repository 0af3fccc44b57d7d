"""The errors a user may meet; each message names the thing and the remedy."""


def printable(text: object) -> str:
    """Text with escapes for what a terminal would obey, as the name of a file may hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


class WbcError(Exception):
    """Base of all errors that the command line prints as one sentence."""


class PlaceError(WbcError):
    """A file or folder cannot be read or written."""


class ProjectError(WbcError):
    """The library is installed without the project's folder, which a command needs."""


class DataNotFoundError(WbcError):
    """The data set is nowhere to be found."""


class BadDataError(WbcError):
    """A file of the data set or of pretrained weights is not what it should be."""


class UnknownNameError(WbcError):
    """An experiment, profile or run was asked for by a name that nobody has."""


class RunError(WbcError):
    """A recorded run is damaged, or a new one cannot be recorded."""


class WeightsError(WbcError):
    """Pretrained weights are missing or are not the ones they should be."""


class BookError(WbcError):
    """A chapter failed, or the pages could not be built."""


class SubmissionError(WbcError):
    """Predictions that were handed in cannot be scored; a line for each reason."""

    def __init__(self, problems: list[str], most: int = 20):
        self.problems = problems
        rest = len(problems) - most
        super().__init__("\n".join(problems[:most] + ([f"And {rest:,} more of this kind."] if rest > 0 else [])))


class NoAnswerError(WbcError):
    """A picture can be read, and nothing worth having can be said of it; the reason is half a sentence."""


class KilledError(WbcError):
    """A process that worked for a command was killed."""


class LabError(WbcError):
    """The chapters cannot be laid out to work in, or JupyterLab cannot be started."""
