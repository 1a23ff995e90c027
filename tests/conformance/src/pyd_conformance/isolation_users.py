"""The isolation suite: containers whose root is nobody on the host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyd_conformance.clauses import clause, needs
from pyd_conformance.isolation_stage import IsolationStage, oci_spec

__all__ = ["HOST_ID", "IsolationUsers", "with_users"]

HOST_ID = 200_000
"""What root inside is outside."""
_COUNT = 65_536


def with_users(spec: dict[str, Any]) -> dict[str, Any]:
    """The document with a user namespace: ids from 0 inside are those from HOST_ID outside."""
    ids = [{"containerID": 0, "hostID": HOST_ID, "size": _COUNT}]
    linux = spec["linux"]
    namespaces = [*linux["namespaces"], {"type": "user"}]
    return {**spec, "linux": {**linux, "namespaces": namespaces, "uidMappings": ids, "gidMappings": ids}}


def _bind(source: Path, destination: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", *options]}


class IsolationUsers:
    """Clauses ISO-13 and ISO-14; collected as a part of IsolationContract."""

    if TYPE_CHECKING:

        def need_kernel(self) -> None: ...

    @staticmethod
    def _said(stage: IsolationStage, script: str, *mounts: dict[str, Any], **how: Any) -> list[str]:
        spec = with_users(oci_spec(["sh", "-c", script], terminal=how.get("terminal", False)))
        spec["mounts"] = [*spec["mounts"], *mounts]
        said, state = stage.output(spec=spec, **how)
        assert state.exit_code == 0, said
        return said.get(1, b"").decode().split()

    @needs("users")
    @clause(
        "ISO-13", "root inside, files of the root file system are root's, and what is written is on the disk as inside"
    )
    def test_ids_inside_and_on_the_disk(self, stage: IsolationStage) -> None:
        self.need_kernel()
        tree = stage.place.tree
        (tree / "tmp/mine").write_text("")

        script = "id -u; stat -c %u:%g /bin /tmp/mine; touch /made; chown 7:8 /tmp/mine; cat /proc/self/uid_map"
        said = self._said(stage, script)

        assert said == ["0", "0:0", "0:0", "0", str(HOST_ID), str(_COUNT)]
        assert (tree / "made").stat().st_uid == 0
        assert ((tree / "tmp/mine").stat().st_uid, (tree / "tmp/mine").stat().st_gid) == (7, 8)

    @needs("users")
    @clause("ISO-13", "on the host the process is who the map says, an exec's too")
    def test_who_it_is_outside(self, stage: IsolationStage) -> None:
        self.need_kernel()
        container = stage.start(spec=with_users(oci_spec(["sleep", "100"])))
        _, client, pid = stage.execute(container, "sh", "-c", "id -u; read x", stdin=True)
        client.read_until(b"0\n")

        for each in (stage.created[container].pid, pid):
            assert Path(f"/proc/{each}").stat().st_uid == HOST_ID
        users = [Path(f"/proc/{each}/ns/user").readlink() for each in (stage.created[container].pid, pid)]
        assert users[0] == users[1] != Path("/proc/self/ns/user").readlink()
        client.send(b"\n")

    @needs("users")
    @clause("ISO-13", "devices, terminal and streams work as without")
    def test_devices_and_streams(self, stage: IsolationStage) -> None:
        self.need_kernel()
        script = "echo x > /dev/null; head -c 4 /dev/zero | wc -c; echo out > /dev/stdout; stat -c %u:%a /dev/null"
        assert self._said(stage, script) == ["4", "out", "0:666"]
        assert self._said(stage, "tty", terminal=True) == ["/dev/pts/0"]

    @needs("users")
    @clause("ISO-13", "no power over what is the host's, all capabilities inside")
    def test_no_power_outside(self, stage: IsolationStage) -> None:
        self.need_kernel()
        secret, open_ = stage.place.work / "secret", stage.place.work / "open"
        secret.write_text("secret")
        secret.chmod(0o600)
        open_.write_text("open")
        open_.chmod(0o644)
        tries = (
            "cat /secret", "echo x >> /open", "chown 0:0 /secret", "chmod 777 /secret", "mknod /node c 1 3",
            "echo 1 > /proc/sys/kernel/panic", "echo b > /proc/sysrq-trigger", "mount -o remount,rw /proc/sys && false",
        )  # fmt: skip
        script = "cat /open; " + " ".join(
            f"({each}) 2>/dev/null && echo '{index}'did;" for index, each in enumerate(tries)
        )
        said = self._said(stage, script + " true", _bind(secret, "/secret"), _bind(open_, "/open"))

        assert said == ["open"]
        assert open_.read_text() == "open"

    @needs("users")
    @clause("ISO-14", "a bind shows the host's ids, one with idmap those on the disk")
    def test_binds(self, stage: IsolationStage) -> None:
        self.need_kernel()
        plain, mapped = stage.place.work / "plain", stage.place.work / "mapped"
        for each in (plain, mapped):
            each.mkdir(mode=0o777)
            each.chmod(0o777)
        script = "stat -c %u /plain /mapped; touch /plain/made /mapped/made; stat -c %u /plain/made /mapped/made"
        said = self._said(stage, script, _bind(plain, "/plain"), _bind(mapped, "/mapped", "idmap"))

        assert said == ["65534", "0", "0", "0"]
        assert ((plain / "made").stat().st_uid, (mapped / "made").stat().st_uid) == (HOST_ID, 0)
