"""Who made these records: code, versions, machine, seeds, weights and data, as plain values for the run folder."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.memory import memory_of_machine
from harness.files import OWN_PACKAGES
from harness.plugins.model import KINDS
from harness.suite.identity import PROTOCOL
from harness.suite.plan import Plan

if TYPE_CHECKING:
    import torch

_PACKAGES = ("torch", "numpy", "scipy", "pillow", "scikit-image")


def describe_invocation(plan: Plan, device: str, executor: str, workers: int, plugins: list[str]) -> dict[str, Any]:
    """One invocation of a suite that ran something; a run folder keeps every one of them.

    Args:
        plan: What is run.
        device: "cpu", "cuda", ...
        executor: "serial" or "processes".
        workers: Worker processes.
        plugins: ``--plugin`` files.
    """
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "plugins": plugins,
        "git": git_state(Path(__file__).parents[2]),
        "versions": versions(device),
        "packages": _packages(),
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "device": device},
        "executor": executor,
        "workers": workers,
        "torch_threads_per_worker": 1 if device == "cpu" else None,
        "seed": plan.suite.seed,
        "weights": plan.suite.weights(),
        "fingerprints": {split.label: split.fingerprint for split in plan.splits},
    }


def _packages() -> dict[str, str]:
    """Every installed distribution that robustiqa requires, and every one that brings plugins, with its version."""
    required = importlib.metadata.requires("robustiqa") or []
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in required]
    found = {}
    for name in sorted({*names, *plugin_packages()}):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def plugin_packages() -> dict[str, str]:
    """Every installed distribution that brings plugins, with its version."""
    points = [point for kind in KINDS for point in importlib.metadata.entry_points(group=f"robustiqa.{kind}")]
    return {point.dist.name: point.dist.version for point in points if point.dist is not None}


@functools.cache
def own_code() -> str:
    """Hash of robustiqa's own Python files: two checkouts of one version may differ."""
    digest = hashlib.sha256()
    for package in OWN_PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            for file in sorted(Path(place).rglob("*.py")):
                digest.update(f"{package}/{file.relative_to(place).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def processor() -> str:
    """The model of this machine's processor, or its kind where the system does not tell the model."""
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()


def hardware() -> dict[str, Any]:
    """The machine that this process runs on."""
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": memory_of_machine(),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of a checkout and whether its tracked files were changed; None where it is none or git is missing."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        top = Path(git("rev-parse", "--show-toplevel"))
        if top.resolve() != folder.resolve():
            return None
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def versions(device: str) -> dict[str, str]:
    """Versions and the device type that decide numbers."""
    found = {
        "device": device.partition(":")[0],
        "robustiqa": own_version(),
        "protocol": str(PROTOCOL),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


@functools.cache
def device_name(device: torch.device) -> str:
    """Where numbers are computed, as records keep it: 'cpu', or the type of accelerator with its name."""
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def own_version() -> str:
    """Version of robustiqa."""
    return importlib.metadata.version("robustiqa")
