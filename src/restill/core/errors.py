"""Errors that end a command; each is one line that a person can act on."""


class UserError(Exception):
    """A mistake in what the user gave: a path, a key, a value.

    The message is one line that names the file or key and says what would be right. The command line prints it
    on stderr and exits with code 2.
    """


class UserCodeError(UserError):
    """An exception in a user's own code. The command line shows its traceback as well."""


class NonFiniteError(Exception):
    """A loss or gradient became NaN or infinite. The message names the step and the checkpoint to continue from."""
