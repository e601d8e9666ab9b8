"""What the driver knows of the nodes of a cluster: who they are, what they lack, what they did; kept as provenance."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.engine.machines.pages import MACHINES_PAGE
from harness.engine.provenance import own_code, plugin_packages, versions
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Done, Job
from harness.wording import tell

_KEPT_EVERY_S = 30.0
_MUST_AGREE = ("robustiqa", "protocol")
NODES_PAGE = "nodes"
"""The page of provenance."""


class NodeBook:
    """The nodes that were met.

    Args:
        folder: The run folder.
        device: The device of the run.
    """

    def __init__(self, folder: RunFolder, device: str) -> None:
        self._folder, self._own = folder, versions(device)
        self._nodes: dict[str, dict[str, Any]] = {}
        self._did: dict[str, list[str]] = {}
        self._checked: set[str] = set()
        self._machines: dict[str, str] = {}
        self._lost: set[str] = set()
        self._said: set[str] = set()
        self._stored = time.monotonic()
        self.refused: dict[str, str] = {}
        """Id of a node that cannot do the work -> why."""

    def meet(self, node: str, about: Mapping[str, Any]) -> str:
        """Take down what a node says of itself.

        Returns:
            Why it cannot do the work; empty where it can.
        """
        host = str(about.get("host", "?"))
        self._nodes.setdefault(node, {"host": host})
        if "missing" in about:
            return f"robustiqa cannot be imported there ({about['missing']})"
        theirs, plugins = about["versions"], about["plugins"]
        for name in _MUST_AGREE:
            if theirs[name] != self._own[name]:
                return f"it has {name} {theirs[name]}, and the driver {self._own[name]}; install the same"
        if about["code"] != own_code():
            return f"its robustiqa {theirs['robustiqa']} has other code than the driver's; install the same"
        for name, version in plugin_packages().items():
            if plugins.get(name) != version:
                has = f"has {name} {plugins[name]}" if name in plugins else f"lacks {name}"
                return f"it {has}, which brings plugins, and the driver has {version}; install the same"
        other = [f"{name} {theirs[name]}" for name in sorted(self._own) if theirs.get(name) != self._own[name]]
        self._nodes[node] |= {"versions": theirs, "hardware": about["hardware"]}
        if other:
            self._say(f"node {host} has {', '.join(other)}, others than the driver; last digits may differ.")
        return ""

    def is_checked(self, node: str) -> bool:
        """Whether its data sets were looked at."""
        return node in self._checked

    def checked(self, node: str, machine: Mapping[str, Any] | None) -> None:
        """Its data sets are those of the plan; how fast it is, if that is known, is kept at once."""
        self._checked.add(node)
        if machine is not None and node not in self._machines:
            self._machines[node] = str(machine["id"])
            self._folder.add_provenance(MACHINES_PAGE, [machine])

    def with_machine(self, node: str, done: Done) -> Done:
        """What became of a job there, its costs with the machine, as far as that is known."""
        machine = self._machines.get(node, "")
        return replace(done, costs=tuple(replace(cost, machine=machine) for cost in done.costs))

    def refuse(self, node: str, reason: str) -> None:
        """Give a node no more work; said once."""
        if node not in self.refused:
            self.refused[node] = reason
            self._say(f"node {self._host(node)} gets no work: {reason.rstrip('.')}.")

    def why_refused(self) -> str:
        """Each node with what is wrong with it."""
        return " ".join(f"{self._host(node)}: {reason.rstrip('.')}." for node, reason in self.refused.items())

    def lose(self, node: str) -> None:
        """A node is gone; said once."""
        if node not in self._lost:
            self._lost.add(node)
            self._say(f"node {self._host(node)} was lost; what ran there is done elsewhere.")

    def did(self, node: str, job: Job) -> None:
        """A node has done a job."""
        self._did.setdefault(node, []).append(job.id)
        if time.monotonic() - self._stored > _KEPT_EVERY_S:
            self.store()

    def store(self) -> None:
        """Add to provenance which node did what, with its versions and hardware."""
        self._stored = time.monotonic()
        new = {node: jobs for node, jobs in self._did.items() if jobs}
        if not new:
            return
        self._did = {}
        self._folder.add_provenance("versions", [self._nodes[node]["versions"] for node in new])

        def added(page: list[Any]) -> list[Any]:
            for node, jobs in new.items():
                known = next((one for one in page if one["node"] == node), None)
                if known is None:
                    page = [*page, {"node": node, **self._nodes[node], "did": jobs}]
                else:
                    page = [one if one is not known else {**one, "did": [*one["did"], *jobs]} for one in page]
            return page

        self._folder.change_provenance(NODES_PAGE, added)

    def _host(self, node: str) -> str:
        return f"{self._nodes.get(node, {}).get('host', '?')} ({node[:8]})"

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            tell(f"note: {text}")
