"""Layers as overlayfs has them on disk; fuse-overlayfs reads and writes the same.

An entry's directory holds ``f``, the layer, and ``w``, a work directory, while it is active. What is gone is a character
device 0:0, and a directory that hides all below it has the attribute ``trusted.overlay.opaque``
(Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from pyd_contracts.errors import DriverFault
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Kind, LayerTarget, Whiteouts
from pyd_snapshots.catalog import Entry
from pyd_snapshots.drivers import StackedDriver
from pyd_snapshots.errors import translated
from pyd_snapshots.trees import copy_attributes

__all__ = ["OverlaidDriver"]

_OWN = ("trusted.overlay.", "user.overlay.")


class OverlaidDriver(StackedDriver):
    """A union file system with overlayfs' layers. Work directories are done with when the entry is committed."""

    @hookimpl
    def storage_layer_target(self, key: str) -> LayerTarget:
        """The upper layer's directory; also of what has no parent yet."""
        return LayerTarget(Path(self._writable(key).path, "f"), Whiteouts.OVERLAY)

    @hookimpl
    def storage_rebase(self, key: str, parent: str) -> None:
        """A layer is a directory of its own: what it lies over is a matter of the record."""
        top = ""
        if self._catalog.get(parent).snapshot.kind is Kind.COMMITTED:  # else it is refused below
            with translated(f"rebase {key} over {parent}"):
                top = self._layers(parent)[0]
            self._stackable(key, parent)
        self._catalog.rebase(key, parent, lambda path: self._stand(path, top))

    def _stand(self, path: str, top: str) -> None:
        """Make an entry's directory one that stands on others, of which *top* is the topmost."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{path}/w", 0o700)
        # the attributes of the upper root directory are shown, not those of the lower ones
        copy_attributes(top, f"{path}/f", but=_OWN)

    def _layers(self, name: str) -> list[str]:
        """The layers of a committed name, topmost first, down to one whose root directory is opaque.

        overlayfs does not look for the opaque mark on a layer's root directory; what it would hide is left out here.
        """
        layers = []
        for entry in self._catalog.chain(name):
            layers.append(f"{entry.path}/f")
            if _is_opaque(layers[-1]):
                break
        return layers

    def _settle(self, entry: Entry) -> None:
        self._catalog.discard(entry, "w")

    def _discard_work(self) -> None:
        """Work directories of entries that were committed by a run that ended before it came to this."""
        for entry in self._catalog.entries():
            if entry.snapshot.kind is Kind.COMMITTED and os.path.lexists(f"{entry.path}/w"):
                self._settle(entry)


def _is_opaque(layer: str) -> bool:
    try:
        return os.getxattr(layer, "trusted.overlay.opaque") == b"y"
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP}:
            return False
        if error.errno == errno.ENOENT:
            raise DriverFault(
                f"the layer {layer} is gone from the disk; `pyd system check --repair` unpacks again what images are made of"
            ) from error
        raise
