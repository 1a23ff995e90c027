"""``/system/df`` as API 1.52 and later shape it: four summaries instead of four lists."""

from __future__ import annotations

from typing import Any

__all__ = ["summaries"]

Json = dict[str, Any]
_ACTIVE = frozenset({"running", "paused", "restarting"})


def summaries(found: Json, *, verbose: bool) -> Json:
    """From the old shape to the new one; kinds that *found* does not have are left out. *verbose*: with the lists."""
    usage: Json = {}
    if "Images" in found:
        images = found["Images"]
        idle = [each for each in images if not each.get("Containers", 0) > 0]
        own = sum(each.get("Size", 0) - max(each.get("SharedSize", 0), 0) for each in idle)
        usage["ImageUsage"] = _summary(images, len(images) - len(idle), found.get("LayersSize", 0), own)
    if "Containers" in found:
        containers = found["Containers"]
        idle = [each for each in containers if each.get("State") not in _ACTIVE]
        usage["ContainerUsage"] = _summary(containers, len(containers) - len(idle), _total(containers), _total(idle))
    if "Volumes" in found:
        volumes = found["Volumes"]
        used = [each.get("UsageData") or {} for each in volumes]
        idle = [each for each in used if not each.get("RefCount", 0) > 0]
        sizes = [sum(max(each.get("Size", 0), 0) for each in some) for some in (used, idle)]
        usage["VolumeUsage"] = _summary(volumes, len(used) - len(idle), *sizes)
    if "BuildCache" in found:
        caches = found["BuildCache"]
        idle = [each for each in caches if not each.get("InUse")]
        sizes = [sum(each.get("Size", 0) for each in some if not each.get("Shared")) for some in (caches, idle)]
        usage["BuildCacheUsage"] = _summary(caches, len(caches) - len(idle), *sizes)
    if not verbose:
        for each in usage.values():
            del each["Items"]
    return usage


def _summary(items: list[Json], active: int, size: int, reclaimable: int) -> Json:
    return {
        "ActiveCount": active,
        "TotalCount": len(items),
        "Reclaimable": reclaimable,
        "TotalSize": size,
        "Items": items,
    }


def _total(containers: list[Json]) -> int:
    return sum(each.get("SizeRw", 0) or 0 for each in containers)
