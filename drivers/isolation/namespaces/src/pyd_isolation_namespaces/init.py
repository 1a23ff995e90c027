"""What a container's first process does before it becomes the user's program, and what an exec'd process does.

Runs in a raw clone of the shim: one thread, no Python machinery but what is already imported. Once the container's file
system is in sight nothing may be imported, no codec looked up and no name service asked: each would run the container's
code with the host's privileges. Errors go to the shim as one message; then ``_exit``.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import stat
import sys
from typing import Any, NoReturn

from pyd_isolation_namespaces.credentials import become, become_root, drop_bounding
from pyd_isolation_namespaces.remapping import limit
from pyd_isolation_namespaces.rootfs import Root, controlling_terminal
from pyd_shim import kernel as k
from pyd_shim import message
from pyd_shim.builders import loopback_up
from pyd_shim.ends import LaunchError
from pyd_shim.mounts import mount_rootfs, needs_device, take_shared
from pyd_shim.plans import from_memory
from pyd_shim.users import Identity, identify

__all__ = ["read_plan", "run_exec", "run_init"]

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RESETTABLE = [number for number in range(1, 65) if number not in (signal.SIGKILL, signal.SIGSTOP)]


def run_init(plan: dict[str, Any], report: socket.socket, stdio: tuple[int, int, int] | None) -> NoReturn:
    """Build the container around this process, wait for the word, become the user's program."""
    _guarded(report, lambda: _init(plan, report, stdio))


def run_exec(
    build: int, report: socket.socket, stdio: tuple[int, int, int] | None, tasks: list[int], init: int, join: int
) -> NoReturn:
    """Join the namespaces *join* (CLONE_NEW*) of the process that pidfd *init* stands for, become the user's program."""
    _guarded(report, lambda: _exec(read_plan(build), report, stdio, tasks, init, join))


def read_plan(build: int) -> dict[str, Any]:
    """The ``build`` part of a plan from its memfd (`pyd_shim.plans.in_memory`)."""
    plan = from_memory(build)
    plan["process"]["seccomp"] = base64.b64decode(plan["process"]["seccomp"])
    return plan


def _guarded(report: socket.socket, steps: Any) -> NoReturn:
    try:
        steps()
    except LaunchError as error:
        answer = {"error": error.kind, "message": str(error)}
    except OSError as error:
        notes = getattr(error, "__notes__", None)
        where = f" ({notes[0]})" if notes else ""
        name = error.filename if isinstance(error.filename, str) else ""
        answer = {"error": "internal", "message": f"set up the container: {error.strerror}{where} {name}".rstrip()}
    except BaseException as error:  # noqa: BLE001 - a clone has nobody above it: whatever it is must be told and end here
        answer = {"error": "internal", "message": f"set up the container: {type(error).__name__}: {error}"}
    else:
        answer = {"error": "internal", "message": "set up the container: the program did not start"}
    try:
        message.send(report, answer)
    finally:
        os._exit(127)


def _init(plan: dict[str, Any], report: socket.socket, stdio: tuple[int, int, int] | None) -> None:
    process = plan["process"]
    remapped = "user" in plan["namespaces"]
    warnings: list[str] = []
    if remapped:
        _join_groups(plan, report)  # the word that the ids are mapped, too
        become_root()
        if plan["namespaces"].get("network") == "":
            loopback_up()
    else:
        warnings = _prepare(process, [])
    os.setsid()
    _join_keyring(plan["id"])
    # Nothing mounted here may show on the host (mount_namespaces(7)), but for what is below binds that say so.
    if not remapped:
        take_shared(plan["mounts"])
    k.mount("", "/", None, k.MS_REC | k.MS_SLAVE)
    if remapped:
        _forget_imports()
        root = Root.over(plan["root_fd"])
    else:
        mount_rootfs(plan["rootfs"], plan["root"])
        if needs_device(plan["rootfs"]):
            message.send(report, {"warnings": []})  # from now on devices may be forbidden to us
        _forget_imports()
        root = Root(plan["root"])
    joined = remapped
    for each in plan["mounts"]:
        if each["type"] == "cgroup" and not joined:
            _join_groups(plan, report)
            joined = True
        root.mount(each, plan["cgroup"])
    if not joined:
        _join_groups(plan, report)
    if any(os.path.normpath(each["destination"]) == "/dev" and each["type"] == "tmpfs" for each in plan["mounts"]):
        root.make_devices(plan["devices"])
    try:
        os.close(root.directory(process["cwd"]))
    except NotADirectoryError as error:
        raise LaunchError("invalid-argument", f"Cannot mkdir: {process['cwd']} is not a directory") from error
    terminal = root.open_terminal(console=True) if process["terminal"] else None
    root.set_sysctls(plan["sysctl"])
    root.make_read_only(plan["readonly_paths"])
    root.mask(plan["masked_paths"])
    root.enter()
    if plan["hostname"]:
        k.sethostname(plan["hostname"].encode())
    if plan["domainname"]:
        k.setdomainname(plan["domainname"].encode())
    if plan["root_readonly"]:
        k.mount_setattr(root.fd, k.MOUNT_ATTR_RDONLY)
    _become_program(process, root, report, stdio, terminal, warnings, wait=True)


def _exec(
    plan: dict[str, Any],
    report: socket.socket,
    stdio: tuple[int, int, int] | None,
    tasks: list[int],
    init: int,
    join: int,
) -> None:
    process = plan["process"]
    warnings = _prepare(process, tasks)
    os.setsid()
    _join_keyring(plan["id"])
    _forget_imports()
    k.setns(init, join)
    if join & k.CLONE_NEWUSER:
        become_root()
    root = Root("/")
    terminal = root.open_terminal(console=False) if process["terminal"] else None
    _become_program(process, root, report, stdio, terminal, warnings, wait=False)


def _prepare(process: dict[str, Any], tasks: list[int]) -> list[str]:
    """What must be done while the host is still in sight: out-of-memory score, control groups, limits."""
    warnings = []
    if process["oom_score_adj"] is not None:
        try:
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, str(process["oom_score_adj"]).encode())
            finally:
                os.close(fd)
        except OSError as error:
            warnings.append(f"oom_score_adj {process['oom_score_adj']} cannot be set: {error.strerror}")
    for fd in tasks:
        os.write(fd, b"0")
        os.close(fd)
    warnings += limit(0, process["rlimits"])
    return warnings


def _join_groups(plan: dict[str, Any], report: socket.socket) -> None:
    """Wait for the shim to have made the v1 groups, join them, and make them the root of what can be seen."""
    answer, tasks = message.receive(report)
    if answer is None:
        os._exit(137)
    for fd in tasks:
        os.write(fd, b"0")
        os.close(fd)
    if plan["own_cgroup_namespace"]:
        k.unshare(k.CLONE_NEWCGROUP)


def _join_keyring(container: str) -> None:
    """A session keyring of its own, so that the host's keys are not inherited (keyrings(7))."""
    try:
        k.keyctl_join_session(b"_ses." + container.encode())
    except OSError as error:
        if error.errno not in (38, 122):  # ENOSYS, EDQUOT: no keyrings in this kernel, or the quota is used up
            raise


def _forget_imports() -> None:
    """From here on an import fails instead of finding the container's files."""
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def _become_program(
    process: dict[str, Any], root: Root, report: socket.socket, stdio: tuple[int, int, int] | None,
    terminal: tuple[int, int] | None, warnings: list[str], *, wait: bool,
) -> None:  # fmt: skip
    """Steps 11 to 20: terminal, credentials, filters, descriptors, execve."""
    identity = identify(root.open, process["user"])
    environment = _environment(process["env"], identity)
    program = _find(process["args"], environment, process["cwd"], root)
    fds: tuple[int, ...] = ()
    if terminal is not None:
        master, slave = terminal
        controlling_terminal(slave)
        stdio = (slave, slave, slave)
        fds = (master,)
    assert stdio is not None
    for target, fd in enumerate(stdio):
        _own(fd, identity)
        os.dup2(fd, target, inheritable=True)
    message.send(report, {"ready": True, "warnings": warnings}, fds)
    if terminal is not None:
        os.close(terminal[0])
    if wait:
        answer, _ = message.receive(report)
        if answer is None:  # the shim died, or the container was deleted before it was started
            os._exit(137)
    argv = k.execve_arguments([each.encode("utf-8", "surrogateescape") for each in process["args"]])
    envp = k.execve_arguments([each.encode("utf-8", "surrogateescape") for each in environment])
    path = program.encode("utf-8", "surrogateescape")
    # All but the report, which is closed by execve: whatever fails until then is told on it.
    last = report.fileno()
    if last > 3:
        k.close_range(3, last - 1)
    k.close_range(last + 1)
    filter_ = process["seccomp"]
    if process["no_new_privileges"]:
        k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    elif filter_:
        k.seccomp_filter(filter_, process["seccomp_flags"])  # needs CAP_SYS_ADMIN, which is dropped below
    capabilities = process["capabilities"]
    drop_bounding(capabilities["bounding"])
    try:
        _enter_directory(process["cwd"])
    except LaunchError as error:
        if error.kind != "permission-denied":
            raise
        become(identity, capabilities)
        _enter_directory(process["cwd"])
    else:
        become(identity, capabilities)
    # A working directory outside the root shows as "(unreachable)..." (CVE-2024-21626).
    if not os.getcwd().startswith("/"):
        raise LaunchError("permission-denied", f"working directory {process['cwd']} is outside of the container")
    k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in _RESETTABLE:
        k.default_signal(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(process["umask"])
    failed = json.dumps  # resolved now: after the filter nothing new is looked up
    kept = k.seccomp_filter(filter_, process["seccomp_flags"]) if process["no_new_privileges"] and filter_ else None
    refusal = k.execve_prebuilt(path, argv, envp)
    del kept
    kind = (
        "permission-denied" if refusal.errno in (1, 13) else "not-found" if refusal.errno == 2 else "invalid-argument"
    )
    text = failed({"error": kind, "message": f"exec {program}: {(refusal.strerror or '').lower()}"}).encode()
    report.send(text, socket.MSG_NOSIGNAL)
    os._exit(126 if kind == "permission-denied" else 127)


def _enter_directory(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        kind = "permission-denied" if error.errno in (1, 13) else "not-found"
        raise LaunchError(kind, f'chdir to the working directory "{path}": {(error.strerror or "").lower()}') from error


def _own(fd: int, identity: Identity) -> None:
    """Give the streams to the user, so that /dev/stdout can be opened again; /dev/null stays as it is."""
    node = os.fstat(fd)
    if stat.S_ISCHR(node.st_mode) and node.st_rdev == os.makedev(1, 3):
        return
    if node.st_uid != identity.uid:
        try:
            os.fchown(fd, identity.uid, node.st_gid)
        except OSError as error:
            if error.errno not in (1, 22, 30):  # not mapped, or on a read-only file system: as runc, go on
                raise


def _environment(given: list[str], identity: Identity) -> list[str]:
    """The spec's environment, with HOME when it says nothing of it; the last of several values of a name counts."""
    names: dict[str, str] = {}
    for each in given:
        name, equals, _ = each.partition("=")
        if name and equals:
            names[name] = each
    if not names.get("HOME", "HOME=").partition("=")[2]:
        names["HOME"] = f"HOME={identity.home}"
    return list(names.values())


def _find(args: list[str], environment: list[str], cwd: str, root: Root) -> str:
    """The program's path, as execvp(3) would find it; wrong ones are told now, at create, in runc's words."""
    name = args[0]
    if "/" in name:
        path = name if name.startswith("/") else os.path.normpath(f"{cwd}/{name}")
        _check(name, path, root)
        return path
    if name in ("", ".", ".."):  # no file's name: what would be found is the directory itself
        raise LaunchError("not-found", f'exec: "{name}": executable file not found in $PATH')
    search = next((each[5:] for each in environment if each.startswith("PATH=")), _DEFAULT_PATH)
    denied = False
    for directory in search.split(":"):
        path = os.path.normpath(f"{directory or cwd}/{name}")
        try:
            _check(name, path, root)
        except LaunchError as error:
            denied = denied or error.kind == "permission-denied"
            continue
        return path
    if denied:
        raise LaunchError("permission-denied", f'exec: "{name}": permission denied')
    raise LaunchError("not-found", f'exec: "{name}": executable file not found in $PATH')


def _check(name: str, path: str, root: Root) -> None:
    try:
        fd = root.open(path)
    except PermissionError:
        raise LaunchError("permission-denied", f'exec: "{name}": permission denied') from None
    except OSError as error:
        raise LaunchError("not-found", f'exec: "{name}": stat {path}: {(error.strerror or "").lower()}') from None
    mode = os.fstat(fd).st_mode
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise LaunchError("permission-denied", f'exec: "{name}": is a directory')
    if not mode & 0o111:
        raise LaunchError("permission-denied", f'exec: "{name}": permission denied')
