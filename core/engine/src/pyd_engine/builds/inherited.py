"""Steps of images that somebody names as sources for the cache (``--cache-from``): built here, or pulled with their history."""

from __future__ import annotations

from collections.abc import Sequence

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_engine.images.documents import ImageConfig
from pyd_engine.images.making import Change
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.service import Images

__all__ = ["Inherited"]


class Inherited:
    """*sources* are names; those that are not here are passed over, as dockerd does."""

    def __init__(self, images: Images, sources: Sequence[str]) -> None:
        self._images = images
        self._sources: list[ImageRecord] = []
        for source in sources:
            try:
                self._sources.append(images.resolve(source))
            except (NotFound, InvalidArgument):
                continue

    def belongs(self, image: ImageRecord) -> bool:
        """One of the sources, or what one was built on."""
        for source in self._sources:
            each: ImageRecord | None = source
            while each is not None:
                if each.id == image.id:
                    return True
                each = self._images.records.get(each.parent) if each.parent else None
        return False

    async def restore(self, below: ImageRecord | None, change: Change) -> ImageRecord | None:
        """The step's image out of a source that has the same history up to *below* and this step next."""
        before = self._images.config(below.id) if below else None
        for source in self._sources:
            config = self._images.config(source.id)
            at = len(before.history) if before else 0
            if not _continues(config, before) or len(config.history) <= at:
                continue
            line = config.history[at]
            if line.created_by != change.created_by:
                continue
            layers = len(before.diff_ids) if before else 0
            return await self._images.restore(source, layers + (not line.empty_layer), at + 1, change, below)
        return None


def _continues(config: ImageConfig, before: ImageConfig | None) -> bool:
    if before is None:
        return True
    lines, count = [each.created_by for each in before.history], len(before.diff_ids)
    return [each.created_by for each in config.history[: len(lines)]] == lines and config.diff_ids[
        :count
    ] == before.diff_ids
