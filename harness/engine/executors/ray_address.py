"""The address of a Ray cluster: where it leads, whether a cluster answers there, and whether it asks for a token."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import UserError

_REACHED_WITHIN_S = 20.0
_FORMS = "An address is auto, local, HOST:PORT or ray://HOST:PORT"
_SETTINGS = b"\4"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
"""Of HTTP/2, which gRPC speaks; the answer is of the kind `_SETTINGS`."""
_FRAME_HEAD = 9
"""Bytes before what a frame holds: its length, its type at the fourth."""
_HEAD_PORT, _CLIENT_PORT = 6379, 10001
_HIGHEST_PORT = 65535
_CLIENT = "ray://"
_ASKED_OF_HEAD, _ASKED_OF_CLIENT_SERVER = (
    "/ray.rpc.NodeInfoGcsService/GetClusterId",
    "/ray.rpc.RayletDriver/ClusterInfo",
)
_MODE = "RAY_AUTH_MODE"
"""Where Ray is told whether a cluster asks for a token; 'ray start' and ray.init each have a default of their own."""


@dataclass(frozen=True)
class RayAddress:
    """Where a cluster is said to be.

    Attributes:
        asked: As a person wrote it.
        client: Whether the cluster's server for machines outside of it is meant.
        host: The head.
        port: The head's.
    """

    asked: str
    client: bool
    host: str
    port: int

    @staticmethod
    def of(asked: str) -> RayAddress:
        """What an address means; 'auto' is the cluster that this machine belongs to.

        Raises:
            UserError: It is no address, or this machine belongs to no cluster, or to several.
        """
        if not asked.strip():
            raise UserError(f"--ray-address is empty. {_FORMS}.")
        try:
            address = _of_this_machine() if asked == "auto" else asked
            plain = address.removeprefix(_CLIENT)
            host, _, port = plain.rpartition(":") if ":" in plain else (plain, "", "")
            client = plain != address
            if port and not (port.isdecimal() and len(port) <= 5 and 0 < int(port) <= _HIGHEST_PORT):
                raise ValueError(f"'{port}' is no port, which is a whole number from 1 to {_HIGHEST_PORT}")
            if not host.strip():
                raise ValueError("no host is named")
            return RayAddress(asked, client, host, int(port or (_CLIENT_PORT if client else _HEAD_PORT)))
        except (OSError, ValueError) as error:
            raise nobody_answers(asked, error) from None

    def __str__(self) -> str:
        """As Ray takes it."""
        return f"{_CLIENT if self.client else ''}{self.host}:{self.port}"

    def reach(self) -> None:
        """Try the port first, by the greeting that its protocol begins with, since Ray itself would try for minutes.

        Then show a token where the cluster asks for one and none where it does not: otherwise no actor could answer.

        Raises:
            UserError: No cluster answers, or not to this token.
        """
        until = time.monotonic() + _REACHED_WITHIN_S
        try:
            self._greet(until)
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            wanted = self._wants_token({}, until)
            if wanted is not None:
                self._agree_on_token(wanted, until)
        except OSError as error:
            raise nobody_answers(self.asked, error) from None

    def _greet(self, until: float) -> None:
        host = self.host.strip("[]")
        places = len(socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM))
        with socket.create_connection((host, self.port), timeout=_left(until) / max(1, places)) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(_GREETING)
            if _first_frame(connection, until) != _SETTINGS:
                raise ConnectionError("what listens there is not Ray")

    def _wants_token(self, shown: Mapping[str, str], until: float) -> bool | None:
        """Whether the cluster wants to be shown a token, or another one; None where that cannot be asked.

        Raises:
            OSError: It is no cluster.
        """
        try:
            import grpc
        except ImportError:  # Ray alone needs none
            return None
        asked = _ASKED_OF_CLIENT_SERVER if self.client else _ASKED_OF_HEAD
        with grpc.insecure_channel(f"{self.host}:{self.port}", [("grpc.enable_http_proxy", 0)]) as channel:
            try:
                channel.unary_unary(asked)(b"", timeout=_left(until), metadata=list(shown.items()))
            except grpc.RpcError as error:
                code = error.code()
                if code is grpc.StatusCode.UNIMPLEMENTED:
                    hint = f"a head is HOST:{_HEAD_PORT}, its server for clients ray://HOST:{_CLIENT_PORT}"
                    raise ConnectionError(f"another server listens there; {hint}") from None
                if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise ConnectionError(f"it is silent: {error.details()}") from None
                return bool(code is grpc.StatusCode.UNAUTHENTICATED)
        return False

    def _agree_on_token(self, wanted: bool, until: float) -> None:
        """Show a token where one is asked for and Ray was told so, or where the cluster is that of this machine."""
        told = os.environ.get(_MODE, "").lower() == "token"
        if not wanted:
            if told:
                raise UserError(f"--ray-address {self.asked}: the cluster asks for no token. Leave {_MODE}=token out.")
            return
        try:
            from ray._private.authentication.authentication_token_setup import (
                maybe_enable_token_auth_if_token_available,
            )
            from ray._raylet import AuthenticationTokenLoader
        except ImportError:  # of a Ray that knows no tokens, or keeps them elsewhere: joining says what is wrong
            return
        cure = f"Set {_MODE}=token, and put what 'ray get-auth-token' prints on its head into ~/.ray/auth_token here."
        if not told:
            told = self.asked == "auto" and maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        if not told:
            raise UserError(f"--ray-address {self.asked}: the cluster asks for a token, and is shown none. {cure}")
        loader = AuthenticationTokenLoader.instance()
        if self._wants_token(loader.get_token_for_http_header() if loader.has_token() else {}, until):
            raise UserError(f"--ray-address {self.asked}: the cluster asks for another token than this one. {cure}")


def _left(until: float) -> float:
    return max(0.1, until - time.monotonic())


def _first_frame(connection: socket.socket, until: float) -> bytes:
    """The type of the first frame that an HTTP/2 server sends; empty where it closes before.

    Raises:
        OSError: It says nothing for long.
    """
    head = b""
    while len(head) < _FRAME_HEAD:
        connection.settimeout(_left(until))
        more = connection.recv(_FRAME_HEAD - len(head))
        if not more:
            break
        head += more
    return head[3:4]


def nobody_answers(asked: str, error: Exception) -> UserError:
    """What is said where no cluster is."""
    return UserError(
        f"--ray-address {asked}: no cluster answers there ({in_one_line(error)}). {_FORMS}: start a cluster with "
        "'ray start --head' and give its address, or take --ray-address local."
    )


def in_one_line(error: Exception) -> str:
    """What an error says, cut where it is long."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def _of_this_machine() -> str:
    """The address of the cluster that this machine belongs to.

    Raises:
        OSError: It belongs to none, or to several.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die

    given = os.environ.get("RAY_ADDRESS", "")
    if given.startswith(_CLIENT):
        return given
    try:
        return str(canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        several = "multiple" in str(error)
        what = "belongs to several: give the address of one" if several else "belongs to none, as far as Ray knows"
        raise ConnectionError(f"this machine {what}") from None
