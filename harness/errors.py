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


def network_reason(error: Exception) -> str:
    """Why a download failed, in few words: the server's answer, or the innermost reason."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    innermost: BaseException = error
    while innermost.__context__ is not None:
        innermost = innermost.__context__
    text = getattr(innermost, "strerror", None) or str(innermost).splitlines()[0] if str(innermost) else ""
    return text or type(innermost).__name__
