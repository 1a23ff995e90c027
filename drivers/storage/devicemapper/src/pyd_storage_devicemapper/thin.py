"""The words of the thin targets: tables, and what their status says (thin-provisioning.rst in Linux)."""

from __future__ import annotations

from dataclasses import dataclass

from .mapper import Target

__all__ = ["METADATA_BLOCK", "METADATA_MAX", "PoolStatus", "PoolTable", "mapped_sectors", "pool_status", "thin_table"]

METADATA_BLOCK = 4096
METADATA_MAX = 255 * ((1 << 14) - 64) * METADATA_BLOCK
"""What the kernel uses of a metadata device (THIN_METADATA_MAX_SECTORS): 15.8 GiB."""


@dataclass(frozen=True, slots=True)
class PoolTable:
    """A pool's table: devices by ``major:minor``, lengths in sectors."""

    length: int
    metadata: str
    data: str
    block: int
    features: frozenset[str] = frozenset({"error_if_no_space"})

    def target(self) -> Target:
        """As a line. The low water mark is nought: nobody waits for events, free space is looked at when it is needed."""
        features = " ".join((str(len(self.features)), *sorted(self.features)))
        return Target(0, self.length, "thin-pool", f"{self.metadata} {self.data} {self.block} 0 {features}")

    @staticmethod
    def of(target: Target) -> PoolTable:
        """Read a line. ValueError: it is not a pool's."""
        if target.kind != "thin-pool":
            raise ValueError(f"a target of the kind {target.kind}, not thin-pool")
        metadata, data, block, _, *features = target.parameters.split()
        return PoolTable(target.length, metadata, data, int(block), frozenset(features[1:]))


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """What a pool says of itself. Used and total in blocks, of metadata (4 KiB each) and of data.

    mode  ``rw``, ``ro``, ``out_of_data_space``, or ``failed``
    """

    transaction: int = 0
    metadata_used: int = 0
    metadata_total: int = 0
    data_used: int = 0
    data_total: int = 0
    mode: str = "failed"
    queues: bool = False
    needs_check: bool = False


def pool_status(target: Target) -> PoolStatus:
    """Read ``<transaction> <used>/<total> <used>/<total> <held root> <mode> <discards> <no space> <needs_check> ...``."""
    words = target.parameters.split()
    if len(words) < 5:  # "Fail", "Error"
        return PoolStatus()
    metadata, data = words[1].split("/"), words[2].split("/")
    return PoolStatus(
        int(words[0]),
        int(metadata[0]),
        int(metadata[1]),
        int(data[0]),
        int(data[1]),
        words[4],
        "queue_if_no_space" in words,
        "needs_check" in words,
    )


def thin_table(pool: str, device: int, sectors: int) -> list[Target]:
    """The table of a thin device. *pool*: ``major:minor``."""
    return [Target(0, sectors, "thin", f"{pool} {device}")]


def mapped_sectors(target: Target) -> int | None:
    """Sectors that a thin device holds blocks for, those it shares included; None when its pool has failed."""
    word = target.parameters.partition(" ")[0]
    return int(word) if word.isdecimal() else None
