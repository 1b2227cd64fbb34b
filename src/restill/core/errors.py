"""The two ways a run can end early, each with one line that a person can act on."""


class UserError(Exception):
    """A mistake in what the user gave: a path, a key, a value.

    The message is one line that names the file or key and says what would be right. The command line prints it
    on stderr and exits with code 2.
    """


class UserCodeError(UserError):
    """An exception in a user's own function; its cause is shown with a traceback, for it is the user's code."""


class NonFiniteError(Exception):
    """A loss or gradient became NaN or infinite. The message names the step and the checkpoint to continue from."""
