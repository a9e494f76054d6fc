"""Errors that training raises on purpose.

    TrainingError
    ├── OptionError            an option has an invalid value
    ├── DataError              the pictures cannot be used
    │   ├── DataMissingError   the pictures were not found, and cannot be downloaded
    │   └── DataFormatError    a file is damaged or has the wrong format
    ├── DivergedError          the loss became NaN or infinite
    ├── NotBetterError         the previous version has as many right answers or more
    ├── CalibrationError       the fit of the calibration failed
    └── DisagreementError      the exported file's output differs from the network's

The message of each is one line: the problem and the remedy.
"""


class TrainingError(Exception):
    """Base class of every error that this package raises on purpose."""


class OptionError(TrainingError):
    """An option has an invalid value."""


class DataError(TrainingError):
    """The pictures cannot be used."""


class DataMissingError(DataError):
    """The pictures were not found, and cannot be downloaded."""


class DataFormatError(DataError):
    """A file is damaged, or has the wrong format."""


class DivergedError(TrainingError):
    """The loss became NaN or infinite."""


class NotBetterError(TrainingError):
    """The previous version has as many right answers or more, and `--if-better` is set."""


class CalibrationError(TrainingError):
    """The fit of a temperature or scaling failed."""


class DisagreementError(TrainingError):
    """The exported file's output differs from the network's, so it is not published."""
