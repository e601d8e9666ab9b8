"""Errors a user can cause. Each is printed as one message naming the thing, the place and the cure; exit code 2."""


class UserError(Exception):
    """A mistake of the user's. Printed as one message, without a traceback, exit code 2.

    >>> import harness
    >>> try:
    ...     harness.run("nowhere.yaml")
    ... except harness.UserError as error:
    ...     print(error)
    nowhere.yaml: no such file. Give the path of a YAML file.
    """


class DataError(UserError):
    """A data set or an image cannot be used as it is."""
