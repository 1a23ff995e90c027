"""What crosses a contract: frozen, slotted values, defined here and nowhere else."""

from __future__ import annotations

from pyd_contracts.values.builds import Copy, Plan, Recipe, Run, Stage, Step
from pyd_contracts.values.isolation import Connection, Created, Execution, Sandbox, State, Statistics, Status, Stdio
from pyd_contracts.values.networks import (
    Address,
    Attached,
    Attachment,
    NetworkSpec,
    Passage,
    Pool,
    PoolRequest,
    PublishedPort,
    Subnet,
)
from pyd_contracts.values.output import Event, LogRecord, LogSource, Piece
from pyd_contracts.values.storage import (
    ChangeKind,
    Kind,
    LayerTarget,
    Mount,
    Snapshot,
    TreeChange,
    Usage,
    Volume,
    Whiteouts,
)

__all__ = [
    "Address",
    "Attached",
    "Attachment",
    "ChangeKind",
    "Connection",
    "Copy",
    "Created",
    "Event",
    "Execution",
    "Kind",
    "LayerTarget",
    "LogRecord",
    "LogSource",
    "Mount",
    "NetworkSpec",
    "Passage",
    "Piece",
    "Plan",
    "Pool",
    "PoolRequest",
    "PublishedPort",
    "Recipe",
    "Run",
    "Sandbox",
    "Snapshot",
    "Stage",
    "State",
    "Statistics",
    "Status",
    "Stdio",
    "Step",
    "Subnet",
    "TreeChange",
    "Usage",
    "Volume",
    "Whiteouts",
]
