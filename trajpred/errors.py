"""The errors that a user can cause and mend. Anything else that is raised is a fault of this code."""

from __future__ import annotations


class TrajpredError(Exception):
    """Base of every error that the command line turns into one line and exit code 2."""


class InputError(TrajpredError):
    """A file, a table, a log or a name that cannot be used; says which, where in it, and the way out."""


class ArtefactError(TrajpredError):
    """A model file that is not ours, is damaged, or does not fit what was asked of it."""


class MissingExtraError(TrajpredError):
    """An optional dependency is absent; names the extra that brings it, as it is installed in a checkout."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install -e '.[{extra}]'")
