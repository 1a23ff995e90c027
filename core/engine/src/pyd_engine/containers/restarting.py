"""Restart policies: whether a container that ended is to be started again, and after how long."""

from __future__ import annotations

from pyd_engine.containers.container import Container

__all__ = ["Backoff", "should_restart", "wanted_after_reboot"]

_FIRST, _LONGEST, _GOOD_RUN = 0.1, 60.0, 10.0
"""Seconds: dockerd's restart manager doubles from 100 ms to one minute and begins anew after a run of ten seconds."""


class Backoff:
    """The growing pause between the restarts of one container."""

    def __init__(self) -> None:
        self._pause = 0.0

    def next(self, ran: float) -> float:
        """Seconds to wait after a run of *ran* seconds."""
        self._pause = _FIRST if ran >= _GOOD_RUN or not self._pause else min(self._pause * 2, _LONGEST)
        return self._pause


def should_restart(container: Container, exit_code: int) -> bool:
    """What the policy says after an end. A stop by the user overrules it until the next start."""
    if container.stopped_by_user:
        return False
    policy = container.host_config.restart_policy
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name == "on-failure" and exit_code != 0:
        return policy.maximum_retry_count == 0 or container.restart_count < policy.maximum_retry_count
    return False


def wanted_after_reboot(container: Container) -> bool:
    """Whether the daemon starts it when it starts itself and finds it stopped: ``always``, also after a stop by the user."""
    policy = container.host_config.restart_policy.name
    return policy == "always" or (policy == "unless-stopped" and not container.stopped_by_user)
