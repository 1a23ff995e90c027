"""The container's file systems, built inside its own mount namespace.

The root file system's content is hostile: nothing below it is walked by the kernel's ordinary path resolution. Every
target is resolved with openat2(2) inside the root, every mount is made detached, gets its attributes, and is then attached
by descriptor (CVE-2021-30465, CVE-2025-31133, CVE-2025-52565, CVE-2026-41579). Runs in a forked child with the standard
library already imported.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios
from collections.abc import Sequence
from typing import Any

from pyd_shim import kernel as k
from pyd_shim.ends import LaunchError
from pyd_shim.mounts import (
    DEVICE_KINDS,
    bind_source,
    detached_bind,
    group_paths,
    mount_refused,
    new_file_system,
    split_options,
)

__all__ = ["Root"]

_DEV_NULL = os.makedev(1, 3)
_TIOCGPTPEER, _TIOCSPTLCK = 0x5441, 0x40045431
_O_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_IN_ROOT = k.RESOLVE_IN_ROOT | k.RESOLVE_NO_MAGICLINKS


def _clean(destination: str) -> str:
    """An absolute path without dots. normpath(3) keeps two slashes at the start, as POSIX allows: "//proc" is "/proc"."""
    return "/" + os.path.normpath("/" + destination).lstrip("/")


class Root:
    """The container's root directory, held by descriptor, and what is built in it."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, _O_DIR)

    @classmethod
    def over(cls, mounted: int) -> Root:
        """The detached mount *mounted*, put over this mount namespace's root: the one place that everybody can reach."""
        root = cls("/")
        k.move_mount(mounted, root.fd)
        os.close(root.fd)
        root.fd = mounted
        return root

    # --- targets -------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int = os.O_PATH) -> int:
        """Open below the root; symlinks lead where they would lead inside the container."""
        return k.openat2(self.fd, path.lstrip("/") or ".", flags, _IN_ROOT)

    def directory(self, path: str, mode: int = 0o755) -> int:
        """Open a directory below the root, making what is missing."""
        try:
            return self.open(path, _O_DIR)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            raise LaunchError("invalid-argument", f"Cannot mkdir: {path} is not a directory") from None
        above, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise LaunchError("invalid-argument", f"{path}: not a path that a directory can be made at")
        parent = self.directory(above or "/", mode)
        try:
            try:
                os.mkdir(name, mode, dir_fd=parent)
            except FileExistsError:
                pass  # a dangling symlink: openat2 below says so
            return k.openat2(parent, name, _O_DIR, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS | k.RESOLVE_NO_MAGICLINKS)
        except OSError as error:
            raise LaunchError("invalid-argument", f"make {path} in the container: {error.strerror}") from error
        finally:
            os.close(parent)

    def file(self, path: str) -> int:
        """Open a file below the root to mount over, making an empty one if there is none."""
        try:
            return self.open(path)
        except FileNotFoundError:
            pass
        above, _, name = path.rstrip("/").rpartition("/")
        parent = self.directory(above or "/")
        try:
            os.close(
                os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent)
            )
            return k.openat2(parent, name, os.O_PATH, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS)
        except OSError as error:
            raise LaunchError("invalid-argument", f"make {path} in the container: {error.strerror}") from error
        finally:
            os.close(parent)

    def _real_directory(self, path: str) -> int:
        """A directory that is what its path says: /dev, /proc and /sys must not be links (CVE-2026-41579)."""
        try:
            return k.openat2(
                self.fd, path.lstrip("/"), _O_DIR, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS | k.RESOLVE_NO_MAGICLINKS
            )
        except FileNotFoundError:
            return self.directory(path)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise LaunchError(
                    "invalid-argument", f"{path} must be an ordinary directory in the image, not a link or a file"
                ) from error
            raise

    # --- mounts --------------------------------------------------------------------------------------------------

    def mount(self, each: dict[str, Any], cgroup: dict[str, Any]) -> None:
        """Perform one OCI mount (config.md "Mounts")."""
        destination, kind = each["destination"], each["type"]
        set_, _, _, _, data = split_options(each["options"])
        try:
            if kind == "cgroup":
                self._mount_cgroup(destination, cgroup, set_)
                return
            if kind == "bind":
                fd = each["fd"] if "fd" in each else bind_source(each)
                is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
                if _clean(destination) == "/proc" and os.path.realpath(each["source"]) != "/proc":
                    raise LaunchError(
                        "invalid-argument", f"{destination}: only a proc file system may be mounted there"
                    )
                into = self._target(destination, is_directory)
            else:
                fd = new_file_system(kind, each["source"], data, set_)
                into = self._target(destination, True)
        except OSError as error:
            raise mount_refused(each, error) from error
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode) != stat.S_ISDIR(os.fstat(into).st_mode):
                raise LaunchError(
                    "invalid-argument",
                    f"mount {kind} {each['source']} to {destination}: not a directory: Are you trying to mount a directory "
                    "onto a file (or vice-versa)? Check if the specified host path exists and is the expected type",
                )
            k.move_mount(fd, into)
        finally:
            os.close(fd)
            os.close(into)

    def _target(self, destination: str, is_directory: bool) -> int:
        clean = _clean(destination)
        if clean.startswith("/proc/"):
            raise LaunchError("invalid-argument", f"{destination}: nothing may be mounted inside /proc")
        if clean in ("/proc", "/sys", "/dev"):
            return self._real_directory(clean)
        return self.directory(clean) if is_directory else self.file(clean)

    def _mount_cgroup(self, destination: str, cgroup: dict[str, Any], attributes: int) -> None:
        """The container's own groups: one cgroup2 mount, or on v1 a tmpfs with one directory a hierarchy."""
        layout = cgroup["layout"]
        safe = attributes | k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV | k.MOUNT_ATTR_NOEXEC
        into = self._target(destination, True)
        if layout["pure"]:
            self._attach(self._groups(cgroup, safe)[0], into)
            return
        tmpfs = new_file_system("tmpfs", "tmpfs", ["mode=755"], safe & ~k.MOUNT_ATTR_RDONLY)
        try:
            for hierarchy in layout["v1"]:
                name = ",".join(c.removeprefix("name=") for c in hierarchy["controllers"])
                os.mkdir(name, 0o755, dir_fd=tmpfs)
                if "," in name:
                    for alias in name.split(","):
                        os.symlink(name, alias, dir_fd=tmpfs)
            k.move_mount(tmpfs, into)
            for hierarchy, group in zip(layout["v1"], self._groups(cgroup, safe), strict=True):
                name = ",".join(c.removeprefix("name=") for c in hierarchy["controllers"])
                point = k.openat2(tmpfs, name, _O_DIR, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS)
                self._attach(group, point)
            if attributes & k.MOUNT_ATTR_RDONLY:
                k.mount_setattr(tmpfs, k.MOUNT_ATTR_RDONLY)
        finally:
            os.close(tmpfs)
            os.close(into)

    @staticmethod
    def _groups(cgroup: dict[str, Any], attributes: int) -> list[int]:
        """The container's groups as detached mounts; with a user namespace the builder has opened them."""
        opened: list[int] = cgroup.get("fds") or []
        if not opened:
            return [
                detached_bind(path, attributes, 0, 0, False) for path in group_paths(cgroup["layout"], cgroup["path"])
            ]
        for fd in opened:
            k.mount_setattr(fd, attributes, propagation=k.MS_PRIVATE)
        return opened

    @staticmethod
    def _attach(fd: int, into: int) -> None:
        try:
            k.move_mount(fd, into)
        finally:
            os.close(fd)
            os.close(into)

    # --- /dev ----------------------------------------------------------------------------------------------------

    def make_devices(self, devices: Sequence[dict[str, Any]]) -> None:
        """Nodes by mknodat(2) below the descriptor of /dev, and the links every program expects (OCI config-linux.md)."""
        dev = self._real_directory("/dev")
        umask = os.umask(0)
        try:
            for each in devices:
                relative = each["path"].removeprefix("/dev/")
                above, _, name = relative.rpartition("/")
                parent = self.directory(f"/dev/{above}") if above else dev
                mode = DEVICE_KINDS[each["type"]] | each.get("fileMode", 0o666)
                number = os.makedev(each.get("major", 0), each.get("minor", 0))
                try:
                    if "fd" in each:  # of the builder's: a user namespace may not make any
                        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                        self._attach(each["fd"], os.open(name, flags, 0o600, dir_fd=parent))
                        continue
                    os.mknod(name, mode, number, dir_fd=parent)
                    os.chown(name, each.get("uid", 0), each.get("gid", 0), dir_fd=parent, follow_symlinks=False)
                except FileExistsError:
                    pass  # a volume over /dev has its own
                finally:
                    if parent != dev:
                        os.close(parent)
            for name, target in (
                ("ptmx", "pts/ptmx"),
                ("fd", "/proc/self/fd"),
                ("stdin", "/proc/self/fd/0"),
                ("stdout", "/proc/self/fd/1"),
                ("stderr", "/proc/self/fd/2"),
            ):
                try:
                    os.symlink(target, name, dir_fd=dev)
                except FileExistsError:
                    pass  # as above
        except OSError as error:
            raise LaunchError("internal", f"make the devices in /dev: {error.strerror}") from error
        finally:
            os.umask(umask)
            os.close(dev)

    def open_terminal(self, *, console: bool) -> tuple[int, int]:
        """A new terminal on the container's own devpts: (master, slave).

        The slave comes from the master (TIOCGPTPEER), not from a path the image could have prepared; so does the mount on
        /dev/console (CVE-2025-52565).
        """
        pts = k.openat2(self.fd, "dev/pts", _O_DIR, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS)
        try:
            master = k.openat2(
                pts,
                "ptmx",
                os.O_RDWR | os.O_NOCTTY,
                k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS | k.RESOLVE_NO_MAGICLINKS,
            )
        finally:
            os.close(pts)
        if os.fstat(master).st_rdev != os.makedev(5, 2):
            raise LaunchError("invalid-argument", "/dev/pts/ptmx of the container is not a terminal multiplexer")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if console:
            into = self.file("/dev/console")
            fd = k.open_tree(slave, "", k.OPEN_TREE_CLONE | k.AT_EMPTY_PATH)
            self._attach(fd, into)
        return master, slave

    # --- closing the room ----------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Make it the root of this mount namespace: pivot_root(".", "."), then let the old one go (pivot_root(2))."""
        old = os.open("/", _O_DIR)
        os.fchdir(self.fd)
        k.pivot_root(".", ".")
        os.fchdir(old)
        k.mount("", ".", None, k.MS_REC | k.MS_SLAVE)
        k.umount2(".", k.MNT_DETACH)
        os.chdir("/")
        os.close(old)
        os.close(self.fd)
        self.fd = os.open("/", _O_DIR)

    def make_read_only(self, paths: Sequence[str]) -> None:
        """Bind each path over itself, read-only all the way down; missing ones are fine."""
        for path in paths:
            try:
                into = k.openat2(self.fd, path.lstrip("/"), os.O_PATH, _IN_ROOT | k.RESOLVE_NO_SYMLINKS)
            except OSError:
                continue  # not there in this kernel
            fd = k.open_tree(into, "", k.OPEN_TREE_CLONE | k.AT_EMPTY_PATH | k.AT_RECURSIVE)
            k.mount_setattr(
                fd,
                k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV | k.MOUNT_ATTR_NOEXEC,
                recursive=True,
            )
            self._attach(fd, into)

    def mask(self, paths: Sequence[str]) -> None:
        """Hide each path: /dev/null over files, an empty read-only tmpfs over directories.

        The null device is the container's own, verified by its numbers: an image or a volume could have put anything in
        its place (CVE-2025-31133).
        """
        try:
            null = k.openat2(self.fd, "dev/null", os.O_PATH, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS)
        except OSError:
            null = os.open(
                "/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            )  # a container without a /dev: the host's
        node = os.fstat(null)
        if not stat.S_ISCHR(node.st_mode) or node.st_rdev != _DEV_NULL:
            raise LaunchError("invalid-argument", "/dev/null of the container is not the null device")
        empty = -1
        for path in paths:
            try:
                into = k.openat2(self.fd, path.lstrip("/"), os.O_PATH, _IN_ROOT | k.RESOLVE_NO_SYMLINKS)
            except OSError:
                continue  # not there in this kernel
            if stat.S_ISDIR(os.fstat(into).st_mode):
                if empty < 0:
                    attributes = k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV | k.MOUNT_ATTR_NOEXEC
                    empty = new_file_system("tmpfs", "tmpfs", ["nr_inodes=1", "size=4k"], attributes)
                    self._attach(os.dup(empty), into)
                    continue
                fd = k.open_tree(empty, "", k.OPEN_TREE_CLONE | k.AT_EMPTY_PATH)
            else:
                fd = k.open_tree(null, "", k.OPEN_TREE_CLONE | k.AT_EMPTY_PATH)
            self._attach(fd, into)
        for fd in (empty, null):
            if fd >= 0:
                os.close(fd)

    def set_sysctls(self, sysctls: dict[str, str]) -> None:
        """Write through a procfs of our own, detached: no path of the container is involved (CVE-2025-52881)."""
        if not sysctls:
            return
        proc = new_file_system("proc", "", [], k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV | k.MOUNT_ATTR_NOEXEC)
        try:
            for name, value in sysctls.items():
                path = "sys/" + name.replace(".", "/")
                try:
                    fd = k.openat2(proc, path, os.O_WRONLY, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS)
                    try:
                        os.write(fd, value.encode())
                    finally:
                        os.close(fd)
                except OSError as error:
                    raise LaunchError(
                        "invalid-argument", f"set sysctl {name}={value}: {(error.strerror or 'failed').lower()}"
                    ) from error
        finally:
            os.close(proc)


def controlling_terminal(slave: int) -> None:
    """Make *slave* this session's terminal."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
