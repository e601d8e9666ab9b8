"""Locks between processes, on file systems with flock and without."""

import errno
import subprocess
import sys
import threading

import filelock
import pytest

from harness.files import locked

COUNT = """
import sys, time
from pathlib import Path
import filelock
from harness.files import locked

def refuse(*args, **kwargs):
    raise OSError({errno}, "no locks here")

if {errno}:
    filelock.FileLock.acquire = refuse
path = Path(sys.argv[1])
for _ in range(20):
    with locked(path):
        seen = int(path.read_text())
        time.sleep(0.001)
        path.write_text(str(seen + 1))
"""


@pytest.mark.parametrize("refused", [0, errno.ENOLCK], ids=["flock", "no flock"])
def test_processes_that_count_in_one_file_lose_nothing(tmp_path, refused):
    path = tmp_path / "count"
    path.write_text("0")
    command = [sys.executable, "-c", COUNT.format(errno=refused), str(path)]
    counting = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in counting] == [0, 0]
    assert path.read_text() == "40"


def test_the_lock_stands_beside_the_file_and_makes_its_folder(tmp_path):
    with locked(tmp_path / "new" / "page.json"):
        assert [path.name for path in (tmp_path / "new").iterdir()] == [".page.json.lock"]


class Refusing(filelock.FileLock):
    error: Exception

    def acquire(self, *args, **kwargs):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [NotImplementedError(), *(OSError(n, "") for n in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK))],
    ids=repr,
)
def test_without_flock_a_file_is_the_lock_while_it_is_held(tmp_path, monkeypatch, error):
    monkeypatch.setattr(Refusing, "error", error, raising=False)
    monkeypatch.setattr(filelock, "FileLock", Refusing)
    (tmp_path / ".page.json.lock").touch()  # what a first try leaves behind
    marker, held = tmp_path / ".page.json.softlock", []

    def second():
        with locked(tmp_path / "page.json"):
            held.append("second")

    with locked(tmp_path / "page.json"):
        assert marker.exists()
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        held.append("first")
    other.join(60)
    assert held == ["first", "second"] and not marker.exists()


def test_a_lock_is_given_back_by_what_fails_and_can_be_taken_again(tmp_path):
    with pytest.raises(ValueError, match="inside"), locked(tmp_path / "page.json"):
        raise ValueError("inside")
    with locked(tmp_path / "page.json"):
        pass


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError), locked(tmp_path / "file" / "page.json"):
        pass
    monkeypatch.setattr(Refusing, "error", PermissionError(errno.EACCES, "no"), raising=False)
    monkeypatch.setattr(filelock, "FileLock", Refusing)
    with pytest.raises(PermissionError), locked(tmp_path / "page.json"):
        pass
    assert not (tmp_path / ".page.json.softlock").exists()
