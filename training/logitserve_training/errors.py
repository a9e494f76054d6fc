"""Everything that training raises on purpose.

    TrainingError
    ├── OptionError            an option that cannot be used
    ├── DataError              the pictures cannot be used
    │   ├── DataMissingError   they are not where they were looked for, and cannot be fetched
    │   └── DataFormatError    a file is not what its name says
    ├── DivergedError          the loss became NaN or infinite
    ├── NotBetterError         the version before it has more right answers
    ├── CalibrationError       the probabilities cannot be made right
    └── DisagreementError      the exported file does not answer as the network does

The message of each is one line for the person who made the mistake: what is wrong and what to do.
"""


class TrainingError(Exception):
    """Base of every error that this package raises on purpose."""


class OptionError(TrainingError):
    """An option has a value that cannot be used."""


class DataError(TrainingError):
    """The pictures cannot be used."""


class DataMissingError(DataError):
    """The pictures are not where they were looked for, and could not be fetched."""


class DataFormatError(DataError):
    """A file is damaged, or is not what its name says."""


class DivergedError(TrainingError):
    """The loss became NaN or infinite."""


class NotBetterError(TrainingError):
    """The version before has as many right answers or more, and a better one was asked for."""


class CalibrationError(TrainingError):
    """The fit of a temperature or scaling failed."""


class DisagreementError(TrainingError):
    """The exported file does not answer as the network does, so it is not published."""
