"""What images take: their layers counted alone, together, and once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pyd_engine.images.records import ImageRecord, ImageRecords
from pyd_engine.layers.service import Layers, chain_ids

__all__ = ["Sizes"]


class Sizes:
    """Bytes of files in layers where known (they were unpacked), else bytes of their blobs."""

    def __init__(self, records: ImageRecords, layers: Layers) -> None:
        self._records = records
        self._layers = layers

    def each(self, record: ImageRecord) -> Sequence[int]:
        """Of each layer, lowest first."""
        known = [self._layers.size(layer.diff_id) for layer in record.layers]
        return [layer.size if size is None else size for layer, size in zip(record.layers, known, strict=True)]

    def of(self, record: ImageRecord) -> int:
        """Of all layers of an image."""
        return sum(self.each(record))

    def chains(self, record: ImageRecord) -> Mapping[str, int]:
        """Of each layer by its ChainID: equal for images that share it."""
        chains = chain_ids([layer.diff_id for layer in record.layers])
        return dict(zip(chains, self.each(record), strict=True))

    def total(self) -> int:
        """Of all layers of all images, each once."""
        return sum(
            {chain: size for record in self._records.all() for chain, size in self.chains(record).items()}.values()
        )

    def shared(self) -> Mapping[str, int]:
        """By image id: bytes of layers that another image has too."""
        records = [(record.id, self.chains(record)) for record in self._records.all()]
        users = Counter(chain for _, chains in records for chain in chains)
        return {image: sum(size for c, size in chains.items() if users[c] > 1) for image, chains in records}
