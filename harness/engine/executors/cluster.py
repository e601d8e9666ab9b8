"""What a run asks of a cluster: which one, what each worker gets, where data sets lie there, and which they have to be.

Nothing here needs Ray.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from harness.engine.machines.pages import MACHINES_PAGE
from harness.engine.machines.reference import machine_here
from harness.engine.worker import Done, Job, Worker
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.plugins.returned import told
from harness.suite.model import DatasetUse
from harness.suite.pixels import images_of
from harness.suite.plan import Plan, SplitSpec, in_hash_order

DATA_VARIABLE = "ROBUSTIQA_DATA_"
"""And a data set's name in capitals: its folder on a machine."""


@dataclass(frozen=True)
class DataSeen:
    """A split, and what of the contents of its image files is compared.

    Attributes:
        split: The split.
        pixels: As `Images.digest` has them where nothing is recorded; empty where none are looked at.
    """

    split: SplitSpec
    pixels: str


@dataclass(frozen=True)
class ClusterOptions:
    """How a cluster is reached and shared.

    Attributes:
        address: "local" for this machine alone, "auto" for the cluster that this machine belongs to, ``host:port`` of
            its head, or ``ray://host:port`` from a machine outside of it.
        cpus: Cores of each worker.
        gpus: GPUs of each worker, fractions allowed; 0 where the device is the CPU.
        memory_mib: Memory that is set aside for each worker; 0 for none.
        roots: Name or label of a data set -> its folder on the nodes.
        data: What a node's data sets are compared with.
    """

    address: str = "local"
    cpus: float = 1.0
    gpus: float = 0.0
    memory_mib: int = 0
    roots: Mapping[str, str] = field(default_factory=dict)
    data: Sequence[DataSeen] = ()

    def room(self, resources: Mapping[str, float]) -> int:
        """How many workers a node of these resources, as Ray names them, has room for."""
        needs = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_mib * 2.0**20}
        return min(int(resources.get(name, 0.0) / need + 1e-9) for name, need in needs.items() if need)

    def needs(self) -> str:
        """What a worker gets, in words: '1 core, 0.5 GPU'."""
        parts = [f"{self.cpus:g} core{'' if self.cpus == 1 else 's'}"]
        parts += [f"{self.gpus:g} GPU"] if self.gpus else []
        return ", ".join(parts + ([f"{self.memory_mib:,} MiB"] if self.memory_mib else []))


def data_of(plan: Plan) -> list[DataSeen]:
    """The splits that a plan reads."""
    splits = [one.split for one in plan.facts] + [one.split for one in plan.fits] + [one.split for one in plan.cells]
    found = []
    for key, split in {split.key: split for split in splits}.items():
        images = plan.images.get(key)
        if images is None or images.pixels == "all":
            found.append(DataSeen(split, split.pixels))
        else:
            found.append(DataSeen(split, replace(images, ledger={}).digest()))
    return found


@dataclass(frozen=True)
class DataCheck(Job):
    """Looks whether the data sets of a machine are those that the plan was made from, and notes how fast it is."""

    data: tuple[DataSeen, ...]

    @property
    def id(self) -> str:
        """Nothing of it is noted."""
        return "data"

    @property
    def label(self) -> str:
        """'look at data sets'."""
        return "look at data sets"

    def work(self, worker: Worker) -> Done:
        """Compare all.

        Raises:
            UserError: Something differs.
        """
        if found := [text for one in self.data if (text := differs(one, worker.registry))]:
            raise UserError("; ".join(found))
        with contextlib.suppress(RuntimeError):  # no memory left to measure it
            worker.store.add_provenance(MACHINES_PAGE, [asdict(machine_here(str(worker.device)))])
        return Done(self.label)

    def fail(self, store: object, message: str, sample: str = "", *, bad_input: bool = False) -> Done:
        """A plugin went wrong."""
        return Done(self.label, failed=1, notices=(message,))


def differs(seen: DataSeen, registry: Registry) -> str:
    """In which way a split of this machine is not the one that was planned with, in words; empty where it is."""
    split, use = seen.split, seen.split.dataset
    try:
        dataset = registry.dataset(use.name).build(use.parameters)
        if dataset.fingerprint() != split.fingerprint:
            return f"data set {split.label}: labels, or names or sizes of images, are not those of the driver's copy"
        entries = in_hash_order(dataset.entries(split.split))
        pixels = images_of(dataset, use, split.split, entries, lambda key: {}).digest()
    except Exception as error:  # of a data set that is not there, or is half there
        return f"data set {split.label}: {error if isinstance(error, UserError) else told(error)}"
    return "" if pixels == seen.pixels else f"data set {split.label}: images hold other pixels than the driver's copy"


def root_here(use: DatasetUse, roots: Mapping[str, str]) -> dict[str, str]:
    """Parameters of a data set that are other ones on this machine.

    Args:
        use: The data set as the suite has it, with paths of the machine that planned.
        roots: Name or label of a data set -> its folder on the nodes.
    """
    key = next((name for name in ("root", "file") if name in use.parameters), None)
    if key is None:
        return {}
    given = use.parameters[key] and Path(str(use.parameters[key])).expanduser()
    of_table = Path(given).name if key == "file" and given else ""
    for name in (use.label, use.name):
        variable = DATA_VARIABLE + re.sub(r"[^A-Z0-9]", "_", name.upper())
        if own := os.environ.get(variable) or roots.get(name):
            return {key: str(Path(own).expanduser() / of_table)}
    base = os.environ.get(f"{DATA_VARIABLE}DIR")
    if not given or not base or given.exists():
        return {}
    return {key: str(Path(base).joinpath(*([given.parent.name] if of_table else []), given.name))}
