"""What a starting daemon does with the containers it finds on disk: adopt, finish, undo, sweep.

The table, by the phase a record was left in and what the isolation backend knows:

creating           the create was cut off            remove what there is, forget it
starting           the start was cut off             end it, take everything back, record the failure
running, paused    it runs, or is frozen             freeze or thaw it as the record says, follow it again
running, paused    it has stopped, or is unknown     record the end, take everything back, then the policies
restarting         the pause was cut off             start it (the policy wants it)
removing, dead     the removal was cut off           finish it
created, exited    nothing was going on              take leftovers back; ``always`` starts
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pyd_contracts.errors import PydError
from pyd_contracts.values import Status
from pyd_engine.containers.container import Container, Phase, failed
from pyd_engine.containers.restarting import should_restart, wanted_after_reboot

if TYPE_CHECKING:
    from pyd_engine.containers.lifecycle import Lifecycle

__all__ = ["adopt", "sweep"]

log = logging.getLogger(__name__)


async def adopt(containers: Lifecycle) -> list[Container]:
    """Bring every record and every kernel object into line; the containers that are to be started. One container's
    trouble stops no other."""
    wanted = []
    leftovers = await asyncio.to_thread(containers.runner.known_to_backends)
    await asyncio.to_thread(containers.runner.mounts.reconcile, containers.store.all())
    for container in containers.store.all():
        try:
            if await _adopt_one(containers, container, leftovers):
                wanted.append(container)
        except PydError as error:
            log.error("take over container %s (%s): %s", container.name, container.state.phase.value, error)
    await asyncio.to_thread(sweep, containers)
    return wanted


async def _adopt_one(containers: Lifecycle, container: Container, leftovers: set[str]) -> bool:
    """Whether it is to be started."""
    runner, phase = containers.runner, container.state.phase
    if phase in (Phase.CREATING, Phase.REMOVING, Phase.DEAD):
        await containers.finish_removal(container)
        return False
    if phase is Phase.STARTING:
        await asyncio.to_thread(runner.clean_up_cut_off, container)
        containers.store.change(container.id, lambda c: failed(c, 255, "the daemon ended while it was starting"))
        if container.host_config.auto_remove:
            await containers.remove(container.id, force=True)
            return False
        return wanted_after_reboot(container)
    if phase.alive:
        state = await asyncio.to_thread(runner.state, container)
        if state.status is not Status.STOPPED:
            await asyncio.to_thread(runner.mounts.resume, container)
            await asyncio.to_thread(_networks, containers, container)
            container = await _frozen_as_said(containers, container, state.status)
            await containers.follow(container)
            log.info("container %s runs on, pid %d", container.name, state.pid)
            return False
        container = containers.record_exit(container, state)
        await asyncio.to_thread(runner.clean_up, container)
        if should_restart(container, container.state.exit_code):
            return True
        if container.host_config.auto_remove:
            await containers.remove(container.id, force=True)
        return False
    if container.id in leftovers:  # the clean-up after its end was cut off
        await asyncio.to_thread(runner.clean_up, container)
    else:
        await asyncio.to_thread(runner.mounts.unmount, container)
    return phase is Phase.RESTARTING or wanted_after_reboot(container)


def _networks(containers: Lifecycle, container: Container) -> None:
    try:
        containers.runner.resume_networks(container)
    except PydError as error:
        log.error("networks of container %s: %s", container.name, error)


async def _frozen_as_said(containers: Lifecycle, container: Container, status: Status) -> Container:
    """The daemon may have died between the effect of a pause and its record, or while it held a container for a commit."""
    if container.state.passing:
        container = containers.store.change(container.id, lambda c: c.moved(Phase.RUNNING, passing=False))
    paused = container.state.phase is Phase.PAUSED
    if paused is not (status is Status.PAUSED):
        isolation = containers.runner.isolation(container)
        await asyncio.to_thread(isolation.isolation_freeze, container=container.id, frozen=paused)
    return container


def sweep(containers: Lifecycle) -> None:
    """Remove what carries a container's id and has no record: the other half of intent before effect."""
    known = {container.id for container in containers.store.all()}
    containers.runner.sweep(known)
