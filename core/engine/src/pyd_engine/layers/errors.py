"""What is wrong with a layer, in terms of the contracts."""

from __future__ import annotations

from pyd_contracts.errors import InvalidArgument

__all__ = ["LayerError"]


class LayerError(InvalidArgument):
    """The layer's content breaks a rule; the message names the entry. Another image is needed, not another try."""
