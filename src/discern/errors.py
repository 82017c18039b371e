"""Errors that a user can cause; each names the file or parameter and says what to do.

Stages and the command line print these as one line and exit with `exit_code`; anything else is a bug
and keeps its traceback. A stage that was stopped is no error of anybody's, and exits as shells expect.
"""


class DiscernError(Exception):
    """Base of every error that is the user's to mend."""

    exit_code = 2


class ParamsError(DiscernError):
    """params.yaml says something that cannot be run."""


class DataError(DiscernError):
    """The photographs are missing, broken or cannot be split as asked."""


class DownloadError(DataError):
    """An archive could not be fetched, or is not the one its checksum names."""


class ArchiveError(DataError):
    """An archive cannot be read, or holds members that must not be extracted."""


class ModelError(DiscernError):
    """Weights are missing, damaged or of another architecture."""


class SettingsError(DiscernError):
    """A DISCERN_ variable, in the environment or in `.env`, says something that cannot be."""


class DeviceError(DiscernError):
    """The asked-for device is not there."""


class StorageError(DiscernError):
    """A file cannot be written: the disk is full, or it is not ours to write."""


class InterruptedStageError(KeyboardInterrupt):
    """The stage was stopped by a signal; its checkpoint is saved and the next run goes on from it.

    No `Exception`: wherever the signal comes, a library's `except Exception` must not swallow it.
    """

    exit_code = 130


class RevisionError(DiscernError):
    """A commit, tag, branch or experiment does not exist, or Git cannot tell."""


class RegistryError(DiscernError):
    """The model registry has no such version, or does not answer."""


class PromotionError(DiscernError):
    """A version does not meet what params.yaml asks of a champion."""
