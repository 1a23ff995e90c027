"""``pydd``: the daemon's command line.

Nothing heavy is imported here: ``--version``, ``--help`` and a faulty command line answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyd_daemon.config import Configuration

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon, or check its configuration; return the exit status.

    0  the daemon was asked to stop and did; or the configuration is valid
    1  it did not stop in time, or there is a bug
    2  it could not start: one line on standard error says why
    """
    options = _parser().parse_args(argv)
    if options.version:
        from pyd_daemon.system import VERSION

        print(f"pydd {VERSION}")
        return 0
    from pyd_contracts.errors import PydError

    load = _loader(options)
    try:
        if options.validate:
            return _validate(load)
        configuration = load()
        if os.geteuid() != 0:
            return _refuse(["the daemon needs root: it makes namespaces, mounts and networks; start it with sudo pydd"])
        from pyd_daemon.assembly import assemble
        from pyd_daemon.lifecycle import run

        return run(configuration, load, os.environ, assemble)
    except PydError as error:
        return _refuse([str(error)])


def _validate(load: Callable[[], Configuration]) -> int:
    from pyd_daemon.config import ConfigError
    from pyd_engine.composition import check
    from pyd_engine.containers.remap import read_remap

    try:
        configuration = load()
        faults = check(configuration.selection())
        read_remap(configuration.userns_remap)
    except ConfigError as error:
        faults = list(error.faults)
    if faults:
        return _refuse(faults)
    print("configuration is valid")
    return 0


def _refuse(faults: list[str]) -> int:
    from pyd_daemon.logs import escaped

    for fault in faults:
        print(f"pydd: {escaped(fault)}", file=sys.stderr)
    return 2


def _loader(options: argparse.Namespace) -> Callable[[], Configuration]:
    flags: dict[str, Any] = {
        "data-root": options.data_root,
        "run-root": options.run_root,
        "hosts": options.host,
        "group": options.group,
        "log-level": options.log_level,
        "log-format": options.log_format,
        "storage.default": options.storage_driver,
        "isolation.default": options.isolation,
        "logging.default": options.log_driver,
        "logging.options": options.log_opt,
        "userns-remap": options.userns_remap,
    }
    given = {name: value for name, value in flags.items() if value is not None}

    def load() -> Configuration:
        from pyd_daemon.config import load as read

        return read(options.config, given, insecure_tcp=options.insecure_tcp)

    return load


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """One line, like every other reason not to start."""
        self.exit(2, f"pydd: {message}; see pydd --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pydd", description="The daemon of pyd, a container engine.", allow_abbrev=False)
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="configuration file (default: /etc/pyd/pyd.toml, if it is there)")
    add("--data-root", metavar="DIR", help="images, containers, metadata: what survives a reboot")
    add("--run-root", metavar="DIR", help="sockets and the state of what runs: what a reboot ends")
    add(
        "-H",
        "--host",
        action="append",
        metavar="URL",
        help="where to listen (repeatable): unix:///path, fd://, tcp://",
    )
    add("-G", "--group", metavar="NAME", help="group of the unix sockets")
    add("--storage-driver", metavar="NAME", help="storage driver of containers that name none")
    add("--isolation", metavar="NAME", help="isolation backend of containers that name none")
    add("--log-driver", metavar="NAME", help="log driver of containers that name none")
    add("--log-opt", action="append", metavar="KEY=VALUE", help="option of containers with that driver (repeatable)")
    add("--userns-remap", metavar="USER", help='give containers ids of "default", "user", "user:group" or "uid:gid"')
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    add("--log-format", metavar="FORMAT", help="text or json")
    add(
        "--insecure-tcp", action="store_true", help="serve tcp:// on loopback without TLS: every local user can be root"
    )
    add("--validate", action="store_true", help="check the configuration and exit")
    add("--version", action="store_true", help="print the version and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
