"""The isolation contract, `pyd.isolation.v1`: the OCI life cycle of one container."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pyd_contracts.markers import hookspec
from pyd_contracts.values import Connection, Created, Execution, Sandbox, State, Statistics

__all__ = ["GROUP", "INIT", "IsolationBackend", "Runtimes"]

GROUP = "pyd.isolation.v1"
INIT = ""
"""The *process* argument that means the container's own first process."""


class IsolationBackend(Protocol):
    """The life cycle of containers: processes in namespaces, in a virtual machine, or in whatever isolates them.

    Vocabulary. A *container* is 64 hex digits. A *process* of it is INIT or the id of an exec. A *supervisor* is what
    holds a container's terminal or pipes and its exit status; it outlives the daemon.

    Life cycle::

        create ── created ── start ── running ── (ends, or kill) ── stopped ── delete
                     └────────────────── kill ─────────┘

    create builds everything but the user's program and blocks it; start lets it run. Specs are OCI runtime-spec
    documents. Long waits are file descriptors, never blocked hooks.

    ISO-1   A refused call changes nothing.
    ISO-2   Containers, their output and their exit status survive the death of the daemon at any moment; a backend made
            anew on the same directories knows them all.
    ISO-3   Hooks are called from several threads; calls for different containers do not disturb each other.
    ISO-4   No container is a child of the daemon's process, nor of anything that dies with it.

    Capabilities (an attribute ``capabilities: frozenset[str]``): ``terminal``, ``exec``, ``pause``, ``resources``;
    ``users``: a namespace of type ``user`` with ``linux.uidMappings`` and ``gidMappings`` (nothing asks others for it);
    ``propagation``: mounts made inside reach the host by a bind that is shared (nothing promises it of others);
    ``runtimes``: the backend stands for several programs, and implements `Runtimes` too.
    """

    @hookspec(firstresult=True)
    def isolation_create(self, container: str, sandbox: Sandbox) -> Created:
        """Build a container whose program waits.

        ISO-10  The answer's netns names the container's network namespace until it has stopped, with ``lo`` up if it is
                a new one.
        ISO-11  AlreadyExists when the container is there; InvalidArgument when the spec cannot work: the message names
                the field; NotFound when the program or a mount source is not there; PermissionDenied when the program
                cannot be executed.
        ISO-12  After a failed create nothing of it is left.
        ISO-13  With a user namespace (capability ``users``) the ids inside are those of *rootfs* on the disk, and outside
                those they are mapped to: root inside has no power over anything that is not the container's.
        ISO-14  So it is on a bind with the option ``idmap`` (``ridmap``: and below) when its file system can; other binds
                show the host's ids, through the map.
        """

    @hookspec(firstresult=True)
    def isolation_start(self, container: str) -> None:
        """Let the program run.

        ISO-15  FailedPrecondition unless created; NotFound when there is no such container.
        ISO-16  An error of execve(2) is raised here (NotFound, PermissionDenied or InvalidArgument), and the container
                is stopped afterwards.
        ISO-17  ``propagation``: where a bind has the option ``shared`` or ``rshared`` and its source is on a shared mount, what
                the program mounts below it shows outside, and the other way round; not with a user namespace. Nothing else
                that it mounts does.
        """

    @hookspec(firstresult=True)
    def isolation_exec(self, container: str, exec_id: str, execution: Execution) -> int:
        """Run a further process in a running container and return its pid on this host.

        ISO-20  It shares all namespaces and resource limits of the container.
        ISO-21  FailedPrecondition unless running; AlreadyExists when *exec_id* is taken; errors of the program as in
                create and start.
        """

    @hookspec(firstresult=True)
    def isolation_attach(self, container: str, process: str, connection: Connection) -> None:
        """Wire a client's stream to a process that is created or running.

        ISO-25  Output from now on reaches the client in order and complete; a slow client slows the process and never
                loses bytes.
        ISO-26  When the process has ended and its output is delivered the stream is closed.
        ISO-27  End of input on the stream closes the process's standard input when it is wired with stdin_once, and
                only half of the stream: output goes on.
        ISO-28  FailedPrecondition when the process has stopped.
        """

    @hookspec(firstresult=True)
    def isolation_resize(self, container: str, process: str, height: int, width: int) -> None:
        """Tell a terminal its size in characters.

        ISO-30  FailedPrecondition when the process has stopped; InvalidArgument when it has no terminal.
        """

    @hookspec(firstresult=True)
    def isolation_kill(self, container: str, process: str, signal: int, everyone: bool) -> None:
        """Send a signal to one process, or to all of the container.

        ISO-35  The process signalled is the one meant, also when its pid was used again.
        ISO-36  FailedPrecondition unless created or running (or paused).
        """

    @hookspec(firstresult=True)
    def isolation_freeze(self, container: str, frozen: bool) -> None:
        """Stop all processes of a running container where they are, or let them go on (capability ``pause``).

        ISO-38  No process of it makes progress while frozen; SIGKILL still ends it. FailedPrecondition unless running.
        """

    @hookspec(firstresult=True)
    def isolation_exit_fd(self, container: str, process: str) -> int:
        """A descriptor that becomes readable once the process has stopped and state says so; the caller closes it.

        ISO-40  It is readable at once when the process has stopped before.
        """

    @hookspec(firstresult=True)
    def isolation_state(self, container: str, process: str) -> State:
        """Say how a process is.

        ISO-45  The exit code is that of the program, 128+N after signal N.
        ISO-46  A container whose supervisor was killed is stopped, its exit code None.
        """

    @hookspec(firstresult=True)
    def isolation_delete(self, container: str) -> None:
        """Remove what create made.

        ISO-50  FailedPrecondition while it runs (or is paused); one that was created and never started, or whose start
                failed, is ended; a container that is not there is not an error.
        ISO-51  No process, cgroup, namespace, mount or file of it is left, but what the engine gave: the spool, and the
                state directory itself.
        """

    @hookspec(firstresult=True)
    def isolation_walk(self) -> Iterable[str]:
        """Name all containers that are created, running or stopped and not deleted, also after a restart.

        ISO-55  Exactly those for which delete would find something.
        """

    @hookspec(firstresult=True)
    def isolation_close(self) -> None:
        """Let go of everything of this process; containers run on.

        ISO-60  Twice is once.
        """

    @hookspec(firstresult=True)
    def isolation_update(self, container: str, resources: Mapping[str, object]) -> Sequence[str]:
        """Change the limits of a running container; what this host could not do as asked, in words.

        *resources* is ``linux.resources`` of the runtime-spec (config-linux.md), without device rules.

        ISO-65  The limits hold for all processes of it from now on; those that *resources* does not name stay.
        ISO-66  When the kernel refuses one, InvalidArgument, and all are as they were.
        ISO-67  FailedPrecondition unless running (or paused).
        """

    @hookspec(firstresult=True)
    def isolation_statistics(self, container: str) -> Statistics:
        """Say what a running container uses and has used.

        ISO-70  What its processes do shows: processor time, memory, processes, bytes on its own network interfaces.
        ISO-71  FailedPrecondition unless running (or paused).
        """


class Runtimes(Protocol):
    """The programs that a backend has containers built by, one of them for each (capability ``runtimes``)."""

    @hookspec(firstresult=True)
    def isolation_runtimes(self) -> Mapping[str, str]:
        """The names that `Sandbox.runtime` may have, the default first, each with its program's path.

        ISO-80  At least one, and the same for as long as the backend lives.
        ISO-81  create takes each of them, and empty for the first; InvalidArgument for any other.
        """
