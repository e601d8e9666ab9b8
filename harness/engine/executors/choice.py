"""Which executor a run has, how many workers, and on which device: as asked for, or as the machine has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from harness.engine.priority import cores

if TYPE_CHECKING:
    from harness.engine.executors.cluster import ClusterOptions
    from harness.engine.worker import Context

EXECUTORS = ("serial", "processes", "ray")
LOCAL = "local"
"""What `ray_address` says of a cluster that lives as long as the run, on this machine."""


class ExecutorOptions(Protocol):
    """What may be asked for."""

    @property
    def executor(self) -> str | None:
        """Of `EXECUTORS`; None takes processes on a CPU, serial on a GPU."""

    @property
    def workers(self) -> int | None:
        """Worker processes; None for one per core."""


def make_executor(context: Context, options: ExecutorOptions, cluster: ClusterOptions | None = None) -> Any:
    """The executor asked for, or the default of the device.

    Raises:
        UserError: It is Ray, which is not installed, or whose cluster does not answer.
    """
    if executor_name(context.device, options) == "ray":
        from harness.engine.executors.cluster import ClusterOptions
        from harness.engine.executors.ray import RayExecutor

        return RayExecutor(context, options.workers, cluster or ClusterOptions(), default_device())
    if executor_name(context.device, options) == "serial":
        from harness.engine.executors.serial import SerialExecutor

        return SerialExecutor(context)
    from harness.engine.executors.processes import ProcessExecutor

    return ProcessExecutor(context, worker_count(context.device, options))


def executor_name(device: str, options: ExecutorOptions) -> str:
    """The executor asked for; without one, processes on a CPU and this process on a GPU."""
    return options.executor or ("processes" if device == "cpu" else "serial")


def worker_count(device: str, options: ExecutorOptions) -> int:
    """Workers that a run will have; of a cluster those asked for, 0 for as many as it has room for."""
    if executor_name(device, options) == "ray":
        return options.workers or 0
    return 1 if executor_name(device, options) == "serial" else options.workers or cores()


def default_device() -> str:
    """A GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
