"""What overlayfs of this kernel, on this file system, with these options, can do: found out by doing it.

A few tens of system calls; remembered in the run directory, which a reboot empties, and asked again when the file
system, the kernel or the options are others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from pyd_contracts.errors import Declined
from pyd_snapshots import syscalls
from pyd_snapshots.idmaps import mapped_clone, other_user_namespace
from pyd_snapshots.memory import remembered
from pyd_snapshots.removal import remove_tree
from pyd_snapshots.trees import DIRECTORY, opened

from . import kernel, quota

__all__ = ["PROJECTS", "Features", "mount_options", "probe"]

PROJECTS = 1 << 24
"""The project of a snapshot is this plus its number; this itself is for trying out."""


@dataclass(frozen=True, slots=True)
class Features:
    """*index_off*: ``index=off`` is known (Linux 4.13). *quotas*: projects can be bounded. *id_maps*: directories of this file
    system can be id-mapped.
    """

    index_off: bool
    quotas: bool = False
    id_maps: bool = False


def probe(root: str, run: Path, options: Sequence[str]) -> Features:
    """Make a real overlay on root's file system. Raises Declined with the reason when it does not work."""
    question = {
        "root": root, "device": os.stat(root).st_dev, "kernel": os.uname().release, "options": list(options),
        "wanted": [each.name for each in fields(Features)],
    }  # fmt: skip
    return Features(**remembered(run / "features.json", question, lambda: asdict(_Probe(root, options).features())))


class _Probe:
    """Overlays of four small directories below ``<root>/new``, which the next open sweeps should this process die."""

    def __init__(self, root: str, options: Sequence[str]) -> None:
        self._root = root
        self._options = tuple(options)
        self._top = f"{root}/new/probe.{os.getpid()}.{threading.get_ident()}"

    def features(self) -> Features:
        if syscalls.statfs_type(self._root) == kernel.OVERLAYFS:
            raise Declined(
                f"{self._root} lies on an overlay itself, and overlayfs refuses an overlay as upper layer; "
                "put the data root on a volume or use another storage driver"
            )
        for index_off in (True, False):
            features = Features(index_off)
            try:
                self._attempt(features)
            except OSError as error:
                if error.errno in {errno.EPERM, errno.EACCES}:
                    raise Declined(f"no permission for overlay mounts ({error}); CAP_SYS_ADMIN is needed") from error
                if error.errno == errno.ENODEV:
                    raise Declined("no overlayfs in this kernel (CONFIG_OVERLAY_FS)") from error
                last = error
                continue
            return replace(
                features, quotas=self._tried(lambda top: quota.works(top, PROJECTS)), id_maps=self._id_maps()
            )
        raise Declined(f"an overlay on {self._root} does not work: {last}") from last

    def _id_maps(self) -> bool:
        with other_user_namespace() as space:
            return space is not None and self._tried(lambda top: self._mapped(top, space))

    def _mapped(self, top: str, space: int) -> bool:
        """Whether id-mapped mounts can be layers here, the upper one too (Linux 5.19), as an engine makes them: standing
        somewhere, in a mount namespace of its own. For long, overlayfs took none that stand nowhere.
        """
        for name in ("1", "2", "u", "u/f", "u/w", "m"):
            os.mkdir(f"{top}/{name}")
        try:
            self._apart(lambda: self._mount_mapped(top, space))
        except OSError:
            return False
        return True

    @staticmethod
    def _mount_mapped(top: str, space: int) -> None:
        with contextlib.ExitStack() as held:
            layers = []
            for name in ("1", "2", "u"):
                if (fd := mapped_clone(f"{top}/{name}", space)) is None:
                    raise OSError(errno.EOPNOTSUPP, f"{top} cannot be id-mapped")
                held.callback(os.close, fd)
                kernel.move_mount(fd, f"{top}/m")
                layers.append(f"/proc/self/fd/{fd}")
            fs = syscalls.fsopen("overlay")
            held.callback(os.close, fs)
            first, second, upper = layers
            for option in (f"lowerdir={first}:{second}", f"upperdir={upper}/f", f"workdir={upper}/w"):
                syscalls.fsconfig_option(fs, option)
            syscalls.fsconfig_create(fs, "overlay")

    def _tried(self, attempt: Callable[[str], bool]) -> bool:
        """Try something in an empty directory."""
        os.mkdir(self._top, 0o700)
        try:
            return attempt(self._top)
        finally:
            self._clear()

    def _clear(self) -> None:
        with opened(os.open(os.path.dirname(self._top), DIRECTORY)) as bin_fd:
            remove_tree(bin_fd, os.path.basename(self._top))

    def _attempt(self, features: Features) -> None:
        top = self._top
        try:
            os.mkdir(top, 0o700)
            for name in ("1", "2", "f", "w", "m"):
                os.mkdir(f"{top}/{name}")
            os.mkdir(f"{top}/1/gone")
            os.mkdir(f"{top}/1/stays")
            syscalls.whiteout(f"{top}/f/gone")
            try:
                self._detached(features, joined=False)
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    self._in_a_thread(features)
                elif error.errno == errno.EINVAL:
                    self._detached(features, joined=True)
                else:
                    raise
        finally:
            self._clear()

    @contextlib.contextmanager
    def _layers(self, features: Features, *, joined: bool) -> Iterator[list[str]]:
        """The options, with layers named by a descriptor: short, and without a character that means something. *joined*: the
        lower ones in one value, as before Linux 6.5.

        Open it in the mount namespace that is to have the mount: overlayfs takes no layers from others (EINVAL).
        """
        with opened(os.open(self._top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
            top = f"/proc/self/fd/{fd}"
            options = mount_options(features, self._options, [f"{top}/2", f"{top}/1"], top)
            if joined:
                options = [option for option in options if not option.startswith("lowerdir+=")]
                options.append(f"lowerdir={top}/2:{top}/1")
            yield options

    def _detached(self, features: Features, *, joined: bool) -> None:
        with contextlib.ExitStack() as held, self._layers(features, joined=joined) as options:
            fs = syscalls.fsopen("overlay")
            held.callback(os.close, fs)
            for option in options:
                syscalls.fsconfig_option(fs, option)
            syscalls.fsconfig_create(fs, "overlay")
            mount = syscalls.fsmount(fs, "overlay")
            held.callback(os.close, mount)
            self._examine(f"/proc/self/fd/{mount}")

    def _in_a_thread(self, features: Features) -> None:
        """mount(2) in a mount namespace of a thread's own."""

        def mount() -> None:
            with self._layers(features, joined=True) as options:
                kernel.mount_private(f"{self._top}/m", options)
            self._examine(f"{self._top}/m")

        self._apart(mount)

    @staticmethod
    def _apart(attempt: Callable[[], None]) -> None:
        """Try in a mount namespace of a thread's own, which is gone afterwards (unshare(2)). Raises what *attempt* does."""
        failures: list[Exception] = []

        def run() -> None:
            try:
                with kernel.private_mounts():
                    attempt()
            except Exception as error:  # noqa: BLE001  # raised again below, in the thread that asked
                failures.append(error)

        thread = threading.Thread(target=run, name="overlay-probe")
        thread.start()
        thread.join()
        if failures:
            raise failures[0]

    def _examine(self, merged: str) -> None:
        seen = sorted(os.listdir(merged))
        if seen != ["stays"]:
            raise Declined(
                f"the file system of {self._root} does not say the type of directory entries (d_type), whiteouts show "
                f"through: {seen}; xfs needs ftype=1"
            )
        checks: tuple[tuple[str, Callable[[], None]], ...] = (
            ("write", lambda: os.mkdir(f"{merged}/new")),
            ("remove", lambda: os.rmdir(f"{merged}/stays")),
            ("replace", lambda: os.mkdir(f"{merged}/gone")),  # needs trusted.* attributes on the upper layer
        )
        for what, check in checks:
            try:
                check()
            except OSError as error:
                raise Declined(f"an overlay on {self._root} cannot {what} a directory: {error.strerror}") from error


def mount_options(features: Features, options: Sequence[str], lowers: Sequence[str], upper: str | None) -> list[str]:
    """The options of one overlay: *lowers* topmost first, *upper* an entry's directory with ``f`` and ``w``."""
    result = list(options)
    if features.index_off and not any(option.startswith(("index=", "nfs_export=on")) for option in result):
        # An upper layer is never used with another lower one, but copies of a data root are: with an index, overlayfs
        # would refuse them as "stale" (overlayfs.rst, "Sharing and copying layers").
        result.append("index=off")
    result += [f"lowerdir+={lower}" for lower in lowers]
    if upper is not None:
        result += [f"upperdir={upper}/f", f"workdir={upper}/w"]
    return result
