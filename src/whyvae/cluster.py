"""Calls of a function on a Ray cluster, in the order they end. A lost node costs its calls a new start."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

TRIES = 3  # new starts of a call whose node was lost


class NoCluster(RuntimeError):
    """No Ray, or none at that address; the message is one line for the user."""


class Lost(RuntimeError):
    """The cluster could not do a call; the message is one line."""


class Cluster:
    """An existing cluster where an address is given, else one of this machine.

    Raises:
        NoCluster.
    """

    def __init__(self, address: str | None, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError as error:
            raise NoCluster("--engine ray needs Ray: pip install 'whyvae[ray]'") from error
        self._ray, self._gpus = ray, gpus
        try:
            if not ray.is_initialized():
                ray.init(address=address, log_to_driver=False)
        except ConnectionError as error:
            raise NoCluster(f"no Ray cluster at {address}: {error}".splitlines()[0]) from error

    @property
    def places(self) -> int:
        """Calls that run at once."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def shared(self, value: Any) -> Any:
        """What stands for `value` in calls, sent once."""
        return self._ray.put(value)

    def call(self, function: Callable[..., Any], *values: Any) -> Any:
        """What stands for the result."""
        remote = self._ray.remote(max_retries=TRIES, num_cpus=1, num_gpus=self._gpus)(function)
        return remote.remote(*values)

    def first(self, waiting: Collection[Any]) -> tuple[Any, Any]:
        """(which call ended first, its result); the result is a `Lost` where there is none."""
        (ended,), _ = self._ray.wait(list(waiting), num_returns=1)
        try:
            return ended, self._ray.get(ended)
        except self._ray.exceptions.RayError as error:
            return ended, Lost(f"the cluster lost it: {error}".splitlines()[0])
