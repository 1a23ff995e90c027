"""Which runtimes there are, and what their words mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyd_contracts.errors import Declined, InvalidArgument
from pyd_isolation_oci.complaints import error_of
from pyd_isolation_oci.runtimes import Runtime, find


def program(folder: Path, name: str) -> str:
    """An executable by that name."""
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_found_on_path_runc_first(tmp_path: Path) -> None:
    crun, runc = program(tmp_path, "crun"), program(tmp_path, "runc")
    found = find({}, str(tmp_path), tmp_path)
    assert list(found.items()) == [("runc", Runtime("runc", runc)), ("crun", Runtime("crun", crun))]


def test_a_host_that_crun_does_not_take(tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    controllers = tmp_path / "unified" / "cgroup.controllers"
    controllers.write_text("hugetlb misc\n")
    program(tmp_path, "crun")
    with pytest.raises(Declined, match=r"crun: crun takes no host with controllers \(hugetlb, misc\)"):
        find({}, str(tmp_path), tmp_path)
    program(tmp_path, "runc")
    assert list(find({}, str(tmp_path), tmp_path)) == ["runc"]
    controllers.write_text("\n")
    assert list(find({}, str(tmp_path), tmp_path)) == ["runc", "crun"]


def test_none_is_a_reason_to_decline(tmp_path: Path) -> None:
    with pytest.raises(Declined, match="no OCI runtime is installed"):
        find({}, str(tmp_path))


def test_configured(tmp_path: Path) -> None:
    path = program(tmp_path, "mine")
    found = find({"special": {"path": path, "options": ["--systemd-cgroup"]}})
    assert found == {"special": Runtime("special", path, ("--systemd-cgroup",))}
    assert found["special"].systemd


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("text", "must be a table"),
        ({"pth": "/bin/true"}, "unknown key 'pth'"),
        ({"path": 3}, "'path' must be a string"),
        ({"path": "/bin/true", "options": "x"}, "'options' must be a list"),
    ],
)
def test_tables_that_cannot_be_meant(table: object, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        find({"name": table})


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(Declined, match="/no/such/runtime is not there"):
        find({"name": {"path": "/no/such/runtime"}})


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (
            'runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH',
            "not-found", 'exec: "nope": executable file not found in $PATH',
        ),
        ("executable file `nope` not found in $PATH: No such file or directory", "not-found", 'exec: "nope": executable'),
        ('runc create failed: exec: "nope": permission denied', "permission-denied", 'exec: "nope": permission denied'),
        ("open executable: Permission denied", "permission-denied", 'exec: "nope": permission denied'),
        ("the sysctl `kernel.nosuch` is not namespaced", "invalid-argument", "linux.sysctl: the sysctl"),
        ('runc create failed: sysctl "kernel.nosuch" is not in', "invalid-argument", "linux.sysctl: runc create failed"),
        ("invalid seccomp action `SCMP_ACT_FOO`", "invalid-argument", "linux.seccomp: "),
        ("writing file `cpuset.cpus`: Numerical result out of range", "invalid-argument", "linux.resources.cpu: "),
        ("OOM: the memory limit could be too low", "invalid-argument", "linux.resources.memory: "),
        ("chdir `/etc/passwd`: Not a directory", "invalid-argument", "process.cwd: "),
        ("unable to setup user: cannot set uid to unmapped user in user namespace", "invalid-argument", "process.user: "),
        ("something else went wrong", "internal", "create with crun: something else went wrong"),
        ("", "internal", "gave no reason"),
    ],
)  # fmt: skip
def test_words(words: str, kind: str, message: str) -> None:
    error = error_of("crun", words, "nope", "create")
    assert error.kind == kind
    assert message in str(error)
