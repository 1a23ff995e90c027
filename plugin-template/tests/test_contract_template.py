"""The template under the storage contract. Ten lines, and you know whether you are done."""

from __future__ import annotations

from pathlib import Path

from pyd_conformance import StorageContract
from pyd_storage_template.driver import TemplateDriver


class TestTemplate(StorageContract):
    """Nothing to declare: no optional power."""

    def make(self, root: Path, run: Path) -> TemplateDriver:
        return TemplateDriver(root)
