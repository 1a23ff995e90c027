"""The sockets that clients come to: born with the right owner and mode, never wider, not even for a moment.

A unix socket is bound under umask 0177 (mode 0600), given to its group, and only then opened to it and listened on.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import socket
import stat
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from pyd_contracts.errors import Conflict, InvalidArgument, PermissionDenied, from_oserror
from pyd_daemon.config.hosts import Host
from pyd_daemon.notify import passed_sockets

__all__ = ["Sockets", "socket_group"]

_BACKLOG = 1024
_DEFAULT_GROUP = "docker"
_log = logging.getLogger("pyd.sockets")


class Sockets:
    """All listening sockets, from construction to `close`. Clients that connect wait until somebody accepts."""

    def __init__(self, hosts: Sequence[Host], group: str, environ: MutableMapping[str, str]) -> None:
        """Raises Conflict for an address in use, InvalidArgument for a group that is not there."""
        self.open: list[socket.socket] = []
        self._files: list[tuple[Path, int]] = []
        passed = passed_sockets(environ)
        gid = socket_group(group)
        try:
            for host in hosts:
                if host.scheme == "unix":
                    self._unix(host.path, gid)
                elif host.scheme == "tcp":
                    self._tcp(host)
                else:
                    self._passed(host.name, passed)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening and remove our own socket files. Twice is once."""
        for path, inode in self._files:
            try:
                if path.lstat().st_ino == inode:  # not one that somebody else put there since
                    path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                _log.warning("remove %s: %s", path, error)
        self._files.clear()
        for each in self.open:
            each.close()
        self.open.clear()

    def _unix(self, path: Path, gid: int) -> None:
        _directory(path.parent)
        _clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
            self.open.append(listener)
            self._files.append((path, path.lstat().st_ino))
            os.chown(path, 0, gid, follow_symlinks=False)
            path.chmod(0o660)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise Conflict(f"listen on unix://{path}: the socket is in use") from error
            raise from_oserror(error, f"listen on unix://{path}") from error
        finally:
            os.umask(before)

    def _tcp(self, host: Host) -> None:
        family = socket.AF_INET6 if ":" in host.address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        where = f"tcp://{host.address}:{host.port}"
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host.address, host.port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise Conflict(f"listen on {where}: the port is in use") from error
            raise from_oserror(error, f"listen on {where}") from error
        self.open.append(listener)
        _log.warning("%s is served without TLS: every user of this host can become root through it", where)

    def _passed(self, name: str, passed: Sequence[tuple[str, socket.socket]]) -> None:
        found = [each for called, each in passed if not name or called == name]
        if not found:
            which = f"named {name!r} " if name else ""
            raise InvalidArgument(
                f"listen on fd://{name}: no socket {which}was passed; start the daemon from a systemd socket unit, or "
                "use unix:///run/pyd/pyd.sock"
            )
        self.open += [each for each in found if each not in self.open]


def socket_group(name: str) -> int:
    """The gid of the sockets' group; for an empty *name* that of ``docker`` if it exists, else root's.

    Raises InvalidArgument when there is no such group.
    """
    try:
        return grp.getgrnam(name or _DEFAULT_GROUP).gr_gid
    except KeyError as error:
        if not name:
            return 0
        raise InvalidArgument(
            f'group = "{name}": there is no such group; make it (groupadd {name}) or name another'
        ) from error


def _directory(path: Path) -> None:
    """Make the socket's directory, and refuse one where others may put a socket of their own in its place."""
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise from_oserror(error, f"make the socket's directory {path}") from error
    sticky = found.st_mode & stat.S_ISVTX
    if found.st_mode & stat.S_IWOTH and not sticky:
        raise PermissionDenied(
            f"listen in {path}: everybody may write there and could replace the socket; chmod o-w {path}, or choose "
            "another"
        )


def _clear(path: Path) -> None:
    """Remove what an earlier daemon left: a socket that nobody accepts on. Anything else stays."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_oserror(error, f"look at {path}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict(f"listen on unix://{path}: there is a file that is not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)  # a full backlog answers EAGAIN: somebody listens
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            raise from_oserror(error, f"look who listens on unix://{path}") from error
    raise Conflict(f"listen on unix://{path}: another daemon is listening there; stop it, or choose another path")
