"""What the lists of both daemons are asked, and which answers differ on purpose: data of `test_side_by_side_filters`.

A value's ``{name}`` is the id that the side gave what is called so, ``{name:12}`` its first digits.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["DIFFERENT", "QUERIES", "UNKNOWN", "WAITS"]

_EVERY: tuple[Any, ...] = (
    "x", "[]", "null", '{"nosuch":["x"]}', '{"nosuch":[]}', '{"nosuch":{"x":true}}', '{"label":"a"}', '{"label":1}',
    '{"label":{"a":true}}', '{"label":{"a":false}}', '{"label":{"a=1":true,"b":true}}', '{"label":[]}', '{"label":null}',
)  # fmt: skip
"""Filters as text: what is no map of lists, and the form that older clients send."""


def _each(name: str, *values: Any) -> list[Any]:
    return [{name: value if isinstance(value, list) else [value]} for value in values]


_CONTAINERS = [
    {},
    *_EVERY,
    *_each(
        "ancestor",
        "busybox",
        "busybox:latest",
        "busybox:nosuch",
        "{busybox}",
        "{busybox:12}",
        "sha256:{busybox}",
        "other:1",
        "derived:1",
        "derived",
        "{derived}",
        "nosuch",
        "nosuch:1",
        "::",
        "",
        "{busybox:3}",
        ["derived:1", "nosuch"],
    ),
    *_each("before", "web-one", "{web-one}", "{exited-3:12}", "nosuch", "", "/web-one"),
    *_each("since", "web-one", "{web-one}", "{exited-3:12}", "nosuch", ""),
    {"since": ["web-one"], "before": ["idle"]},
    *_each(
        "expose",
        "80",
        "80/tcp",
        "90/udp",
        "90",
        "95",
        "85",
        "80-90",
        "80-90/udp",
        "81-89",
        "x",
        "99999",
        "80/x",
        "",
        "90-80",
    ),
    *_each(
        "publish",
        "18080",
        "18080/tcp",
        "18080/udp",
        "80",
        "80/tcp",
        "18000-18100",
        "18000-18100/tcp",
        "x",
        "99999",
        "",
        "18100-18000",
    ),
    {"publish": ["18080"], "expose": ["90/udp"]},
    {"publish": ["18080"], "expose": ["95/tcp"]},
    *_each("exited", "0", "3", "137", "x", "", "-1", ["0", "3"]),
    *_each("health", "starting", "healthy", "unhealthy", "none", "x", "", ["healthy", "none"]),
    *_each(
        "id",
        "{web-one}",
        "{web-one:12}",
        "{web-one:4}",
        "web-one",
        "nosuch",
        "",
        ["{web-one}", "{idle}"],
        "^{web-one:6}",
    ),
    *_each("isolation", "default", "process", "hyperv", "x", ""),
    *_each("is-task", "true", "false", "1", "0", "x", "", ["true", "false"]),
    *_each("label", "a", "a=1", "a=2", "a=", "nosuch", "", ["a", "b"], ["a=1", "b=2"], ["a=1", "a=2"], "A"),
    *_each(
        "name",
        "web",
        "web-one",
        "/web-one",
        "^web",
        "^/web",
        "one$",
        "^/web-one$",
        "^web-one$",
        "w.b",
        "[",
        "WEB",
        "",
        ["one", "idle"],
        "nosuch",
        "e",
        "(?i)WEB",
        "web|idle",
    ),
    *_each(
        "network",
        "netone",
        "nettwo",
        "{nettwo}",
        "{nettwo:12}",
        "{nettwo:4}",
        "bridge",
        "{bridge:12}",
        "none",
        "host",
        "nosuch",
        "",
        "net",
    ),
    *_each(
        "status",
        "running",
        "exited",
        "created",
        "paused",
        "dead",
        "restarting",
        "removing",
        "x",
        "",
        "Running",
        ["running", "exited"],
        ["running", "x"],
    ),
    *_each("volume", "v-used", "/data", "/anon", "v-free", "nosuch", "", "/bound", "/usr", "v", ["v-used", "/bound"]),
    {"label": ["a"], "status": ["exited"]},
    {"name": ["one"], "status": ["paused", "running"]},
    {"status": ["exited"], "exited": ["3"]},
    {"ancestor": ["busybox"], "label": ["b"]},
]

_IMAGES = [
    {},
    *_EVERY,
    *_each(
        "before", "busybox", "{busybox}", "{derived:12}", "derived:1", "other:1", "nosuch", "", "busybox:nosuch", "::"
    ),
    *_each("since", "busybox", "{busybox}", "{derived:12}", "derived:1", "nosuch", ""),
    *_each("dangling", "true", "false", "1", "0", "x", "", ["true", "false"], "True"),
    *_each("label", "l", "l=1", "l=2", "nosuch", "", ["l", "l=1"], ["l=1", "l=2"]),
    *_each(
        "reference",
        "busybox",
        "busybox:*",
        "busybox:latest",
        "b*",
        "*",
        "*/*",
        "repo/*",
        "repo/x",
        "*:1",
        "other:[12]",
        "other",
        "nosuch",
        "[",
        "",
        "{busybox}",
        ["other:1", "derived"],
        "x",
        "localhost:5000/*",
        "OTHER",
        "docker.io/library/busybox",
    ),
    {"reference": ["other:1"], "label": ["l"]},
    {"dangling": ["true"], "label": ["l"]},
    {"since": ["busybox"], "dangling": ["false"]},
]

_VOLUMES = [
    {},
    *_EVERY,
    *_each("dangling", "true", "false", "1", "0", "x", "", ["true", "false"], "True"),
    *_each("driver", "local", "nosuch", "", "loc", ["local", "nosuch"]),
    *_each("label", "l", "l=1", "l=2", "nosuch", "", ["l=1", "m"], ["l=1", "l=2"]),
    *_each("name", "v", "v-used", "^v-", "free$", "V", "nosuch", "", ["used", "free"], "[", "v.used"),
    {"name": ["v-"], "dangling": ["true"]},
    {"label": ["l"], "dangling": ["false"]},
]

_NETWORKS = [
    {},
    *_EVERY,
    *_each("dangling", "true", "false", "1", "0", "x", "", ["true", "false"]),
    *_each("driver", "bridge", "null", "none", "host", "nosuch", "", "bri", ["host", "null"]),
    *_each("id", "{netone}", "{netone:12}", "{netone:4}", "netone", "nosuch", "", ["{netone}", "{nettwo}"]),
    *_each("label", "l", "l=1", "l=2", "nosuch", "", ["l", "l=1"], ["l=1", "l=2"]),
    *_each("name", "net", "netone", "^net", "one$", "NET", "nosuch", "", ["one", "two"], "bridge", "[", "net.ne"),
    *_each("scope", "local", "global", "swarm", "x", "", ["local", "swarm"]),
    *_each("type", "custom", "builtin", "x", "", ["custom", "builtin"]),
    {"driver": ["bridge"], "type": ["custom"]},
    {"name": ["net"], "label": ["l"]},
]

_EVENTS = [
    *_EVERY,
    *_each("type", "container", "image", "volume", "daemon", "plugin", "x", "", ["image", "volume"], "Container"),
    *_each(
        "event",
        "create",
        "start",
        "die",
        "pause",
        "exec_create",
        "exec_start",
        "exec_create: true",
        "exec_die",
        "health_status",
        "health_status: healthy",
        "tag",
        "mount",
        "x",
        "",
        ["start", "die"],
        "dest",
        "sta",
    ),
    *_each("action", "start", "x"),
    *_each(
        "container", "web-one", "{web-one}", "{web-one:12}", "{web-one:4}", "web", "nosuch", "", ["web-one", "idle"]
    ),
    *_each(
        "image",
        "busybox",
        "busybox:latest",
        "other:1",
        "other",
        "{busybox}",
        "sha256:{busybox}",
        "derived",
        "nosuch",
        "",
    ),
    *_each("label", "a", "a=1", "a=2", "nosuch", "", ["a=1", "b"], "l=1"),
    *_each("network", "netone", "{netone}", "nosuch"),
    *_each("volume", "v-used", "v", "nosuch", ""),
    *_each("scope", "local", "swarm", "x", ""),
    *_each("daemon", "x"),
    *_each("plugin", "x"),
    {"type": ["container"], "event": ["start"], "container": ["idle"]},
    {"type": ["container"], "label": ["a"], "event": ["die", "start"]},
    {"container": ["web-one"], "image": ["busybox"]},
]

QUERIES: dict[str, list[Any]] = {
    "/containers/json?all=1": _CONTAINERS,
    "/containers/json": [
        {}, {"status": ["exited"]}, {"status": []}, {"exited": ["3"]}, {"name": ["exited"]}, {"health": ["none"]},
        {"is-task": ["false"]}, {"id": ["{exited-3}"]}, {"before": ["idle"]}, {"since": ["exited-3"]},
        {"ancestor": ["derived"]},
    ],
    "/containers/json?limit=2": [{}, {"status": ["exited"]}, {"label": ["a"]}, {"since": ["exited-3"]}],
    "/containers/json?limit=-1": [{}],
    "/containers/json?limit=x": [{}],
    "/images/json": _IMAGES,
    "/images/json?all=1": [{}, {"label": ["l"]}, {"dangling": ["true"]}],
    "/volumes": _VOLUMES,
    "/networks": _NETWORKS,
    "/events": _EVENTS,
}  # fmt: skip
"""Path to its filters: a map, or the text itself."""

WAITS = ("", "not-running", "next-exit", "removed", "x", "Removed", "not-running&condition=removed")

_REASONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "since 23.0 this is 400, and ours says what was expected": dict.fromkeys(
        ("/containers/json?all=1", "/images/json", "/volumes", "/networks", "/events"),
        ("x", "[]", '{"label":"a"}', '{"label":1}'),
    ),
    "a name that is not there is 404": {
        "/containers/json?all=1": ({"before": ["nosuch"]}, {"since": ["nosuch"]}, {"before": [""]}, {"since": [""]}),
    },
    "the beginning of an id will do": {
        "/containers/json?all=1": ({"before": ["{exited-3:12}"]}, {"since": ["{exited-3:12}"]}),
    },
    "a value that is none is 400, since 23.0 mostly": {
        "/containers/json?all=1": (
            {"expose": ["x"]}, {"expose": [""]}, {"publish": ["x"]}, {"publish": [""]}, {"exited": ["x"]}, {"exited": [""]},
            {"expose": ["99999"]}, {"expose": ["90-80"]}, {"publish": ["99999"]}, {"publish": ["18100-18000"]},
        ),
        "/containers/json?limit=x": ({},),
        "/images/json": ({"reference": ["["]},),
        "/networks": ({"type": ["x"]}, {"type": [""]}),
    },
    "since 23.0 1 and 0 are taken for true and false everywhere": {
        "/containers/json?all=1": ({"is-task": ["1"]}, {"is-task": ["0"]}),
        "/images/json": ({"dangling": ["1"]}, {"dangling": ["0"]}),
    },
    "since 23.0 in these words everywhere, and both at once is neither": {
        "/containers/json?all=1": ({"is-task": ["true", "false"]},),
        "/images/json": ({"dangling": ["true", "false"]},),
        "/volumes": ({"dangling": ["true", "false"]},),
        "/networks": ({"dangling": ["x"]}, {"dangling": [""]}, {"dangling": ["true", "false"]}),
    },
}  # fmt: skip

DIFFERENT: dict[tuple[str, str], str] = {
    (path, each if isinstance(each, str) else json.dumps(each)): why
    for why, paths in _REASONS.items()
    for path, several in paths.items()
    for each in several
}
"""(path, filters) to why pydd answers otherwise."""

UNKNOWN = {"x": 'invalid condition: "x"', "Removed": 'invalid condition: "Removed"'}
"""Conditions that are none, and what pydd says: dockerd 20.10 takes them for ``not-running``, later ones refuse them."""
