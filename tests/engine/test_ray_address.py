"""Addresses of clusters that are none, and of those where nobody speaks: one message, with the forms there are."""

import re
import socket
import sys

import pytest

from harness.engine.executors import ray_address
from harness.engine.executors.ray_address import RayAddress
from harness.errors import UserError

FORMS = "An address is auto, local, HOST:PORT or ray://HOST:PORT"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "--ray-address is empty."),
        (":6379", "--ray-address :6379: no cluster answers there (no host is named)."),
        ("ray://", "--ray-address ray://: no cluster answers there (no host is named)."),
    ],
)
def test_what_is_no_address(asked, said):
    with pytest.raises(UserError, match=re.escape(f"{said} {FORMS}")):
        RayAddress.of(asked)


def test_somebody_who_accepts_and_says_nothing(monkeypatch):
    monkeypatch.setattr(ray_address, "_REACHED_WITHIN_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=re.escape(f"{address}: no cluster answers there (timed out). {FORMS}")):
            RayAddress.of(address).reach()


def test_a_ray_that_knows_no_tokens_is_left_to_join_as_it_can(monkeypatch):
    for name in ("ray", "ray._private.authentication.authentication_token_setup"):
        monkeypatch.setitem(sys.modules, name, None)
    RayAddress.of("head:1")._agree_on_token(True, 0.0)
