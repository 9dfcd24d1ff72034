"""Machinery: the errors a person can cause or meet, each with its exit code.

CairnError            70  a bug of ours
├── UsageError         2  unknown flag, bad value on the command line
├── DataError         65  a row, a label, an encoding, an artifact of the wrong kind
├── MissingError      66  a file, a folder or a reference that does not exist
├── UnavailableError  69  network, extra or device that is needed and not there
├── IntegrityError    71  bytes are not what their manifest says
├── StorageError      74  disk full, permission
├── StoppedError      75  stopped on the way; what was done is kept, the same command goes on
└── ConfigError       78  a recipe, card or config that does not make sense
"""

import errno


class CairnError(Exception):
    """Something went wrong; the message says what, where and what to do."""

    exit_code = 70


class UsageError(CairnError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class DataError(CairnError):
    """Data that cannot be used as it is."""

    exit_code = 65


class MissingError(CairnError):
    """A file, a folder or a reference that is not there."""

    exit_code = 66


class UnavailableError(CairnError):
    """Something outside the project that is needed and cannot be had."""

    exit_code = 69


class IntegrityError(CairnError):
    """Bytes that differ from what their manifest says."""

    exit_code = 71


class StorageError(CairnError):
    """The disk or its permissions refuse."""

    exit_code = 74


class StoppedError(CairnError):
    """Stopped before the end, by a signal or because somebody else is at work; resumable."""

    exit_code = 75


class ConfigError(CairnError):
    """Settings that contradict each other or the data."""

    exit_code = 78


def from_os_error(error: OSError) -> CairnError:
    """Turn an operating system error into the sentence a person can act on."""
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        return MissingError(f"{where}{reason}")
    if error.errno == errno.ENOSPC:
        return StorageError(f"{where}{reason}. Free some space and run the same command again.")
    return StorageError(f"{where}{reason}")
