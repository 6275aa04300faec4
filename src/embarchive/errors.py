"""Every error a caller can meet.

A message names the thing, what was expected and what was found, on one line. The command
line prints that line and exits with 2; no caller ever sees a traceback for bad input.
"""

import os


def reason_of(error: OSError) -> str:
    """Why a file could not be used, in a few words: pyarrow's own text has its path and the reason
    once more."""
    return os.strerror(error.errno) if error.errno else str(error).strip().split("\n")[0][:160]


class EmbarchiveError(Exception):
    """Base of all errors raised on purpose by this package."""


class BadInput(EmbarchiveError):
    """An argument, recipe, scene or query that cannot be used as given."""


class MissingExtra(BadInput, ImportError):
    """A package that only an extra of embarchive installs; the message names the extra."""


class NotAnArchive(EmbarchiveError):
    """No pointer at the root, or one that is not an `embarchive` pointer."""


class UnknownVersion(EmbarchiveError):
    """A format object of another version than the ones this package reads."""


class Damaged(EmbarchiveError):
    """Bytes whose length, hash or structure is not what the manifest promises."""


class Missing(EmbarchiveError):
    """An object the manifest names is not on the store."""


class GenerationExpired(Missing):
    """An object of the pinned generation was collected; open the archive again."""


class StoreUnreachable(EmbarchiveError):
    """The store did not answer within the deadline, or refused."""


class Conflict(EmbarchiveError):
    """Two writers, or two inputs for the same place, date and source, that disagree."""


class CommitUnknown(EmbarchiveError):
    """The outcome of a pointer swap could not be determined by reading back."""
