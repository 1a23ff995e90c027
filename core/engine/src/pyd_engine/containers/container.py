"""The record of a container: frozen; a change makes a new one. The state machine is a table."""

from __future__ import annotations

import enum

import msgspec

from pyd_contracts.errors import Conflict
from pyd_engine.containers.binds import Bind
from pyd_engine.containers.config import ContainerConfig, EndpointSettings
from pyd_engine.containers.host_config import HostConfig

__all__ = ["Container", "Doing", "Health", "Phase", "Probe", "RunState", "after", "failed"]


class Phase(enum.Enum):
    """Where a container is in its life. The values are Docker's words, but for two: STARTING shows as created or exited
    and is the intent on disk that a crash leaves behind, CREATING is never shown."""

    CREATING = "creating"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"

    @property
    def alive(self) -> bool:
        """There is a process."""
        return self in (Phase.RUNNING, Phase.PAUSED)


class Doing(enum.Enum):
    """What can be asked of a container, or happen to it."""

    READY = "make"
    START = "start"
    STARTED = "be started"
    FAIL = "fail to start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    EXIT = "end"
    RETRY = "wait for its restart"
    REMOVE = "remove"


_TABLE: dict[Phase, dict[Doing, Phase]] = {
    Phase.CREATING: {Doing.READY: Phase.CREATED, Doing.REMOVE: Phase.REMOVING},
    Phase.CREATED: {Doing.START: Phase.STARTING, Doing.REMOVE: Phase.REMOVING},
    Phase.STARTING: {Doing.STARTED: Phase.RUNNING, Doing.FAIL: Phase.EXITED, Doing.EXIT: Phase.EXITED},
    Phase.RUNNING: {Doing.PAUSE: Phase.PAUSED, Doing.EXIT: Phase.EXITED},
    Phase.PAUSED: {Doing.UNPAUSE: Phase.RUNNING, Doing.EXIT: Phase.EXITED},
    Phase.EXITED: {Doing.START: Phase.STARTING, Doing.RETRY: Phase.RESTARTING, Doing.REMOVE: Phase.REMOVING},
    Phase.RESTARTING: {Doing.START: Phase.STARTING, Doing.EXIT: Phase.EXITED, Doing.REMOVE: Phase.REMOVING},
    Phase.REMOVING: {Doing.FAIL: Phase.DEAD},
    Phase.DEAD: {Doing.REMOVE: Phase.REMOVING},
}


def after(container: Container, doing: Doing) -> Phase:
    """The phase that *doing* leads to. Raises Conflict naming both ends when the table has no such way."""
    following = _TABLE[container.state.phase].get(doing)
    if following is None:
        raise Conflict(f"cannot {doing.value} container {container.name}: it is {container.state.phase.value}")
    return following


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """How the last run went, or goes. Times are nanoseconds since the epoch, 0 for never. *passing*: it is paused for the
    time of one request only, and goes on should the daemon die meanwhile."""

    phase: Phase
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    passing: bool = False
    started_ns: int = 0
    finished_ns: int = 0


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a health check. Times are nanoseconds since the epoch; -1: it did not start, or took too long."""

    start_ns: int
    end_ns: int
    exit_code: int
    output: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What health checks said: ``starting``, ``healthy`` or ``unhealthy``, failures in a row, the last probes."""

    status: str
    failing_streak: int = 0
    log: tuple[Probe, ...] = ()


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of one container.

    storage, isolation  names of the drivers it was made with
    runs        how often it was started: names the spool of each run
    stopped_by_user  a restart policy must leave it alone
    endpoints   networks by name: what was asked, completed with what was given while it runs
    mounts      what its users and its image want to see where, volumes by name
    remove_volumes  its anonymous volumes go with it: asked by the removal that was begun
    health      of the present or the last run; None without a health check
    warnings    what the host could not do as asked, from its last start
    links       legacy links: aliases, and ids of the containers they stand for
    """

    id: str
    name: str
    created_ns: int
    image: str
    image_ref: str
    path: str
    args: tuple[str, ...]
    config: ContainerConfig
    host_config: HostConfig
    storage: str
    isolation: str
    state: RunState
    endpoints: dict[str, EndpointSettings] = {}
    mounts: tuple[Bind, ...] = ()
    remove_volumes: bool = False
    health: Health | None = None
    runs: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    warnings: tuple[str, ...] = ()
    platform: str = "linux"
    links: dict[str, str] = {}

    @property
    def shown_phase(self) -> str:
        """Docker's word for where it is: while it is being started that is where it was before."""
        phase = self.state.phase
        if phase is Phase.STARTING and self.restart_count:
            return Phase.RESTARTING.value
        if phase is Phase.STARTING and self.state.finished_ns:
            return Phase.EXITED.value
        return Phase.CREATED.value if phase in (Phase.STARTING, Phase.CREATING) else phase.value

    @property
    def short(self) -> str:
        """The 12 digits people see."""
        return self.id[:12]

    def console_size(self) -> tuple[int, int]:
        """Height and width that its terminal is to begin with; 0: the kernel's."""
        size = self.host_config.console_size
        return (int(size[0]), int(size[1])) if size and len(size) == 2 else (0, 0)

    @property
    def tty(self) -> bool:
        """Its streams are one terminal."""
        return self.config.tty

    def moved(self, phase: Phase, **changes: object) -> Container:
        """The same container in another phase, with *changes* of its run state."""
        return msgspec.structs.replace(self, state=msgspec.structs.replace(self.state, phase=phase, **changes))


def failed(container: Container, code: int, error: str) -> Container:
    """After a start that did not succeed: as before it, with the reason. A container that never ran stays created."""
    after(container, Doing.FAIL)
    phase = Phase.EXITED if container.state.started_ns else Phase.CREATED
    return container.moved(phase, exit_code=code, error=error)
