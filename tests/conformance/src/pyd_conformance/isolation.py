"""The isolation suite. A backend's author writes::

    @pytest.mark.root
    class TestJails(IsolationContract):
        capabilities = frozenset({"terminal", "exec"})

        def make(self, root: Path, run: Path) -> IsolationBackend:
            return JailsBackend(run)

and runs pytest, with a static busybox at /bin/busybox. A backend without a kernel behind it sets ``kernel = False``: what
can only be seen in a kernel is then skipped. Clauses are those of `pyd_contracts.isolation`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.isolation_propagation import IsolationPropagation
from pyd_conformance.isolation_resources import IsolationResources
from pyd_conformance.isolation_runtimes import IsolationRuntimes
from pyd_conformance.isolation_stage import (
    SECONDS,
    IsolationStage,
    Place,
    alive,
    busybox_missing,
    in_network,
    oci_spec,
    parent_of,
    refusal,
    until,
)
from pyd_conformance.isolation_streams import IsolationStreams
from pyd_conformance.isolation_users import IsolationUsers
from pyd_conformance.pytest_plugin import absent
from pyd_contracts.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PydError,
)
from pyd_contracts.isolation import INIT, IsolationBackend
from pyd_contracts.values import Mount, Status, Stdio

__all__ = ["IsolationContract", "IsolationStage", "Place"]

_CRASH = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("suite", {file!r})
suite = module_from_spec(spec)
spec.loader.exec_module(suite)
from pyd_conformance.isolation_stage import IsolationStage, Place
stage = IsolationStage.__new__(IsolationStage)
stage.__init__(suite.{name}().make, Place(*map(Path, {place!r})))
container = stage.start("sh", "-c", "read x; echo later; exit 6", stdin=True, container={container!r})
created = stage.create("echo", "waited", container={other!r})
os.kill(os.getpid(), signal.SIGKILL)
"""


class IsolationContract(IsolationStreams, IsolationResources, IsolationUsers, IsolationPropagation, IsolationRuntimes):
    """Base of a backend's test class; ``subject`` names the backend in the report (default: the class's name)."""

    capabilities: frozenset[str] = frozenset()
    kernel = True

    def make(self, root: Path, run: Path) -> IsolationBackend:
        """Open the backend under test on these directories."""
        raise TypeError(f"{type(self).__name__} must override make(root, run)")

    def lose_supervisor(self, stage: IsolationStage, container: str) -> None:
        """Kill what holds a container's exit status, and nothing else. Override it where that is not its parent."""
        self.need_kernel()
        os.kill(parent_of(stage.created[container].pid), signal.SIGKILL)

    def need_kernel(self) -> None:
        """Skip what can only be seen in a kernel."""
        if not self.kernel:
            pytest.skip("there is no kernel behind this backend")

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """The directories of one test."""
        return Place.at(tmp_path)

    @pytest.fixture
    def stage(self, request: pytest.FixtureRequest, place: Place) -> Iterator[IsolationStage]:
        """The backend, open and empty; afterwards every container is ended."""
        if self.kernel and (why := busybox_missing()) is not None:
            absent(request.config, "busybox", why)
        stage = IsolationStage(self.make, place)
        yield stage
        stage.close()

    # --- declared ------------------------------------------------------------------------------------------------

    def test_declares_the_capabilities_it_is_tested_for(self, stage: IsolationStage) -> None:
        assert getattr(stage.backend, "capabilities", None) == self.capabilities

    # --- create --------------------------------------------------------------------------------------------------

    @clause("ISO-10", "create answers with a process and a network namespace, and the program waits")
    def test_create(self, stage: IsolationStage) -> None:
        container = stage.create("echo", "ran")

        created, state = stage.created[container], stage.state(container)

        assert created.pid > 0
        assert (state.status, state.pid, state.exit_code) == (Status.CREATED, created.pid, None)
        assert created.netns.exists()
        assert stage.spooled(container) == b""

    @clause("ISO-10", "the namespace is new, lo is up in it, and it goes when the container stops")
    def test_the_network_namespace(self, stage: IsolationStage) -> None:
        self.need_kernel()
        container = stage.create("sleep", "100")
        netns = stage.created[container].netns

        assert netns.stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
        in_network(netns, "/bin/busybox", "ping", "-c", "1", "-W", "2", "127.0.0.1")
        stage.backend.isolation_start(container=container)
        assert netns.stat().st_ino == Path(f"/proc/{stage.created[container].pid}/ns/net").stat().st_ino
        stage.kill(container)
        stage.wait(container)
        until(lambda: not netns.exists(), "the namespace's path is gone")

    @clause("ISO-11", "a second container by that id is refused, and the first is untouched")
    def test_create_twice(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")
        before = stage.state(container)

        with pytest.raises(AlreadyExists):
            stage.create("echo", container=container)

        assert stage.state(container) == before

    @clause("ISO-11", "a spec that cannot work is refused and the field named")
    @pytest.mark.parametrize(
        ("field", "value"),
        [("args", []), ("args", ["echo", "a\0b"]), ("env", ["A=\0"]), ("cwd", "relative/path")],
        ids=["no-args", "null-in-args", "null-in-env", "relative-cwd"],
    )
    def test_create_names_the_field(self, stage: IsolationStage, field: str, value: object) -> None:
        spec = oci_spec(["true"])
        spec["process"][field] = value

        message = self.refused(stage, InvalidArgument, spec)

        assert f"process.{field}" in message

    @clause("ISO-11", "a user who is not in the root file system is refused by name")
    def test_create_names_the_user(self, stage: IsolationStage) -> None:
        spec = oci_spec(["true"])
        spec["process"]["user"] = {"username": "nobody-of-that-name"}

        assert "nobody-of-that-name" in self.refused(stage, InvalidArgument, spec)

    @clause("ISO-11", "a program that is not there, or cannot be executed")
    def test_create_looks_for_the_program(self, stage: IsolationStage) -> None:
        assert "no-such-program" in self.refused(stage, NotFound, oci_spec(["no-such-program"]))
        assert "/nowhere/at-all" in self.refused(stage, NotFound, oci_spec(["/nowhere/at-all"]))
        assert "/bin/noexec" in self.refused(stage, PermissionDenied, oci_spec(["/bin/noexec"]))
        assert "/etc" in self.refused(stage, PermissionDenied, oci_spec(["/etc"]))

    @clause("ISO-11", "a mount source that is not there")
    def test_create_looks_for_mount_sources(self, stage: IsolationStage) -> None:
        spec = oci_spec(["true"])
        spec["mounts"].append(
            {"destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["rbind"]}
        )

        assert "/no/such/source" in self.refused(stage, NotFound, spec)

    @clause("ISO-12", "after a failed create nothing is left, and the id is free")
    @clause("ISO-1", "a refused create changes nothing")
    def test_a_failed_create_leaves_nothing(self, stage: IsolationStage) -> None:
        container = os.urandom(32).hex()
        broken = oci_spec(["no-such-program"], env=(f"PYD_TEST={container}",))

        with pytest.raises(NotFound):
            stage.create(spec=broken, container=container)

        assert stage.walk() == set()
        assert stage.leftovers(container) == []
        stage.start("true", container=container)
        assert stage.wait(container).exit_code == 0

    @clause("ISO-12", "a root file system that cannot be mounted leaves nothing")
    def test_a_broken_root_leaves_nothing(self, stage: IsolationStage) -> None:
        container = os.urandom(32).hex()
        mounts = (Mount("bind", str(stage.place.work / "absent"), ("rbind",)),)
        sandbox = stage.sandbox(container, oci_spec(["true"]), Stdio(), mounts)

        with pytest.raises(PydError):
            stage.backend.isolation_create(container=container, sandbox=sandbox)

        assert stage.walk() == set()
        assert stage.leftovers(container) == []

    def refused(self, stage: IsolationStage, kind: type[PydError], spec: dict[str, object]) -> str:
        """Create refuses *spec* with *kind* and leaves nothing; the message."""
        container = os.urandom(32).hex()
        sandbox = stage.sandbox(container, spec, Stdio(spool=stage.place.work / "refused"))
        message = refusal(kind, stage.backend.isolation_create, container=container, sandbox=sandbox)
        assert stage.walk() == set()
        return message

    # --- start ---------------------------------------------------------------------------------------------------

    @clause("ISO-15", "only what is created is started")
    def test_start_refuses(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")

        with pytest.raises(FailedPrecondition):
            stage.backend.isolation_start(container=container)
        stage.kill(container)
        stage.wait(container)
        with pytest.raises(FailedPrecondition):
            stage.backend.isolation_start(container=container)
        with pytest.raises(NotFound):
            stage.backend.isolation_start(container="0" * 64)

    @clause("ISO-16", "a program that cannot be run is told at start, and the container has stopped")
    def test_start_tells_of_execve(self, stage: IsolationStage) -> None:
        self.need_kernel()
        (stage.place.tree / "bin/broken").write_text("#!/no/such/interpreter\n")
        (stage.place.tree / "bin/broken").chmod(0o755)
        container = stage.create("broken")

        with pytest.raises(NotFound, match="broken"):
            stage.backend.isolation_start(container=container)

        state = stage.wait(container)
        assert state.status is Status.STOPPED
        assert "broken" in state.error

    # --- ends ----------------------------------------------------------------------------------------------------

    @clause("ISO-40", "readable only when state says so, and at once when it has stopped before")
    def test_the_exit_descriptor(self, stage: IsolationStage) -> None:
        container = stage.create("sh", "-c", "read x", stdin=True)
        fd = stage.backend.isolation_exit_fd(container=container, process=INIT)
        try:
            stage.backend.isolation_start(container=container)
            client = stage.attach(container)
            assert select.select([fd], [], [], 0.05)[0] == []
            client.send(b"\n")
            assert select.select([fd], [], [], SECONDS)[0] == [fd]
        finally:
            os.close(fd)

        assert stage.state(container).status is Status.STOPPED
        late = stage.backend.isolation_exit_fd(container=container, process=INIT)
        try:
            assert select.select([late], [], [], 1)[0] == [late]
        finally:
            os.close(late)

    @clause("ISO-45", "the exit code is the program's")
    @pytest.mark.parametrize("code", [0, 1, 42, 255])
    def test_exit_codes(self, stage: IsolationStage, code: int) -> None:
        container = stage.start("sh", "-c", f"exit {code}")

        state = stage.wait(container)

        assert (state.status, state.pid, state.exit_code, state.oom_killed) == (Status.STOPPED, 0, code, False)
        assert state.finished_at is not None
        assert state.finished_at > 1.6e9

    @clause("ISO-45", "128+N after signal N")
    def test_the_exit_code_of_a_signal(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")

        stage.kill(container)

        assert stage.wait(container).exit_code == 137

    @clause("ISO-46", "a container whose supervisor was killed has stopped, its exit code is not known")
    def test_a_killed_supervisor(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")
        pid = stage.created[container].pid

        self.lose_supervisor(stage, container)
        state = stage.wait(container)

        assert (state.status, state.exit_code, state.finished_at) == (Status.STOPPED, None, None)
        if self.kernel:
            until(lambda: not alive(pid), "the container's process is gone")
        stage.backend.isolation_delete(container=container)
        assert stage.leftovers(container) == []

    # --- delete and walk -----------------------------------------------------------------------------------------

    @clause("ISO-50", "a running container is not deleted; what is not there is no error")
    def test_delete_refuses(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")

        with pytest.raises(FailedPrecondition):
            stage.backend.isolation_delete(container=container)

        assert stage.state(container).status is Status.RUNNING
        stage.backend.isolation_delete(container="0" * 64)

    @clause("ISO-50", "one whose start has failed is deleted at once, whether or not its process is gone")
    def test_delete_after_a_start_that_failed(self, stage: IsolationStage) -> None:
        self.need_kernel()
        broken = stage.place.tree / "bin/broken"
        broken.write_text("no program\n")
        broken.chmod(0o755)
        for _ in range(10):
            container = stage.create("broken")
            with pytest.raises(PydError):
                stage.backend.isolation_start(container=container)

            stage.backend.isolation_delete(container=container)

            assert container not in stage.backend.isolation_walk()

    @clause("ISO-51", "nothing is left, and the spool stays")
    def test_delete_leaves_nothing(self, stage: IsolationStage) -> None:
        container = stage.start("echo", "kept")
        stage.wait(container)

        stage.backend.isolation_delete(container=container)

        assert stage.leftovers(container) == []
        assert stage.spooled(container) == b"kept\n"
        stage.backend.isolation_delete(container=container)
        with pytest.raises(NotFound):
            stage.state(container)

    @clause("ISO-51", "what was killed leaves nothing either")
    def test_delete_after_a_kill(self, stage: IsolationStage) -> None:
        container = stage.start("sh", "-c", "while :; do sleep 0.05; done")
        stage.kill(container, everyone=True)
        stage.wait(container)

        stage.backend.isolation_delete(container=container)

        assert stage.leftovers(container) == []

    @clause("ISO-55", "exactly what delete would find, also after a restart")
    def test_walk(self, stage: IsolationStage) -> None:
        created = stage.create("true")
        running = stage.start("sleep", "100")
        stopped = stage.start("true")
        stage.wait(stopped)
        deleted = stage.start("true")
        stage.wait(deleted)
        stage.backend.isolation_delete(container=deleted)

        assert stage.walk() == {created, running, stopped}
        stage.reopen()
        assert stage.walk() == {created, running, stopped}

    # --- the daemon's end ----------------------------------------------------------------------------------------

    @clause("ISO-60", "twice is once, and containers run on")
    def test_close(self, stage: IsolationStage) -> None:
        container = stage.start("sh", "-c", "read x; exit 4", stdin=True)

        stage.backend.isolation_close()
        stage.backend.isolation_close()

        stage.lose()
        assert stage.state(container).status is Status.RUNNING
        stage.attach(container).send(b"\n")
        assert stage.wait(container).exit_code == 4

    @clause("ISO-2", "a backend made anew knows the running, the created and the stopped")
    def test_a_new_backend_goes_on(self, stage: IsolationStage) -> None:
        waiting = stage.create("echo", "waited")
        running = stage.start("sh", "-c", "read x; echo later; exit 6", stdin=True)
        stopped = stage.start("sh", "-c", "exit 9")
        stage.wait(stopped)

        stage.lose()

        assert stage.state(stopped).exit_code == 9
        client = stage.attach(running)
        client.send(b"\n")
        assert client.read() == {1: b"later\n"}
        assert stage.wait(running).exit_code == 6
        assert stage.spooled(running) == b"later\n"
        stage.backend.isolation_start(container=waiting)
        assert stage.wait(waiting).exit_code == 0

    @clause("ISO-2", "the death of the daemon's process takes nothing with it")
    @clause("ISO-4", "no container is a child of it, or of what dies with it")
    def test_the_daemon_is_killed(self, stage: IsolationStage) -> None:
        self.need_kernel()
        container, other = os.urandom(32).hex(), os.urandom(32).hex()
        place = stage.place
        code = _CRASH.format(
            path=sys.path, file=sys.modules[type(self).__module__].__file__, name=type(self).__name__,
            place=[str(each) for each in (place.root, place.run, place.tree, place.work)],
            container=container, other=other,
        )  # fmt: skip
        errors = place.work / "daemon.err"  # a file: what survives the daemon may keep its standard error open
        with errors.open("wb") as file:
            daemon = subprocess.run(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=60
            )
        assert daemon.returncode == -signal.SIGKILL, errors.read_text()

        stage.lose()

        assert stage.walk() == {container, other}
        state = stage.state(container)
        assert state.status is Status.RUNNING
        assert alive(parent_of(state.pid))
        client = stage.attach(container)
        client.send(b"\n")
        assert client.read() == {1: b"later\n"}
        assert stage.wait(container).exit_code == 6
        stage.backend.isolation_start(container=other)
        assert stage.wait(other).exit_code == 0
        assert stage.spooled(other) == b"waited\n"

    @clause("ISO-3", "containers do not disturb each other")
    def test_several_threads(self, stage: IsolationStage) -> None:
        def live(number: int) -> tuple[dict[int, bytes], int | None]:
            said, state = stage.output("sh", "-c", f"echo {number}; exit {number}")
            return said, state.exit_code

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(live, range(12)))

        assert found == [({1: b"%d\n" % number}, number) for number in range(12)]
