"""Errors that end a command, and warnings that do not; each is one line that a person can act on."""

from __future__ import annotations

import warnings


class UserError(Exception):
    """A mistake in what the user gave: a path, a key, a value.

    The message is one line that names the file or key and says what would be right. The command line prints it
    on stderr and exits with code 2.
    """


class UserCodeError(UserError):
    """An exception in a user's own code. The command line shows its traceback as well."""


class NonFiniteError(Exception):
    """A loss or gradient became NaN or infinite. The message names the step and the checkpoint to continue from."""


class DataWarning(UserWarning):
    """Something in the user's data that is probably not as it should be. The command line prints it on stderr."""


def warn_of(text: str) -> None:
    """Issue a `DataWarning`: one line that names the file, says what is odd about it, and what would be right."""
    warnings.warn(text, DataWarning, stacklevel=3)
