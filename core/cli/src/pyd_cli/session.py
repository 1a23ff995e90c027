"""What every command is given: the daemon's API, the user's configuration, and the terminal's streams."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyd_cli.api import Api
    from pyd_cli.endpoint import Endpoint


class Session:
    """One invocation of `pyd`."""

    def __init__(self, endpoint: Endpoint, config_dir: str = "", debug: bool = False) -> None:
        self.endpoint = endpoint
        self.config_dir = config_dir or default_config_dir()
        self.debug = debug
        self._api: Api | None = None
        self._config: dict[str, Any] | None = None

    @property
    def api(self) -> Api:
        if self._api is None:
            from pyd_cli.api import Api

            self._api = Api(self.endpoint)
        return self._api

    @property
    def config(self) -> dict[str, Any]:
        """The user's `config.json` ({} when there is none). Warns, like docker, about one that cannot be read."""
        if self._config is None:
            from pyd_cli.userconfig import load

            self._config = load(self.config_dir)
        return self._config

    def write(self, text: str) -> None:
        """`text` on stdout, as it is."""
        sys.stdout.write(text)

    def say(self, text: str) -> None:
        """A line on stdout."""
        sys.stdout.write(text + "\n")

    def complain(self, text: object) -> None:
        """A line on stderr."""
        sys.stdout.flush()
        sys.stderr.write(f"{text}\n")

    def complain_raw(self, text: str) -> None:
        """`text` on stderr, as it is."""
        sys.stdout.flush()
        sys.stderr.write(text)

    def confirm(self, question: str) -> bool:
        """Whether the user answers yes on stdin; nothing and end of file are no."""
        sys.stdout.write(f"{question} [y/N] ")
        sys.stdout.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def default_config_dir() -> str:
    """PYD_CONFIG, DOCKER_CONFIG, else `~/.docker`: credentials are shared with docker's command line."""
    return (
        os.environ.get("PYD_CONFIG")
        or os.environ.get("DOCKER_CONFIG")
        or os.path.join(os.path.expanduser("~"), ".docker")
    )
