"""The rig of the shim's tests, by name: test modules here have no package to import it from."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shim_rig import Rig

_spec = importlib.util.spec_from_file_location("shim_rig", Path(__file__).parent / "shim_rig.py")
assert _spec is not None
assert _spec.loader is not None
shim_rig = importlib.util.module_from_spec(_spec)
sys.modules["shim_rig"] = shim_rig
_spec.loader.exec_module(shim_rig)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Rig]:
    """A zygote and its containers, which are scripts of this host."""
    with shim_rig.rigged(tmp_path) as rig:
        yield rig
