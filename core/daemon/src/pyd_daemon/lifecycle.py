"""The life of the daemon's process: directories, locks, sockets, engine, serving; and leaving in the opposite order.

Containers are not this process's business: they run on when it ends, whatever ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn, Protocol

from pyd_contracts.errors import from_oserror
from pyd_daemon import logs
from pyd_daemon.backends import Backends
from pyd_daemon.config import ConfigError, Configuration
from pyd_daemon.lock import DirectoryLock
from pyd_daemon.notify import Notifier
from pyd_daemon.sockets import Sockets

__all__ = ["Assembled", "Build", "instance_of", "run"]

_DEFAULT_ROOT = "/var/lib/pyd"
_THREADS = 32
_GRACE = 2.0  # seconds beyond the shutdown timeout until the process ends whatever still works
_log = logging.getLogger("pyd.daemon")


class Assembled(Protocol):
    """An engine as `assembly` builds it."""

    @property
    def backends(self) -> Backends: ...
    async def start_up(self) -> None:
        """Adopt what runs; afterwards the engine can be used."""

    def end_streams(self) -> None:
        """End what would otherwise never end (events), so that requests can finish."""

    async def shut_down(self) -> None:
        """Let go of everything, the last made first. Containers run on."""


class Build(Protocol):
    """How an engine is built; blocking, runs in a worker thread."""

    def __call__(self, configuration: Configuration, instance: str, log: logging.Logger) -> Assembled: ...


def instance_of(data_root: Path) -> str:
    """8 hex digits that tell this data root from another on the same host; zeros for the default one.

    >>> instance_of(Path("/var/lib/pyd"))
    '00000000'
    """
    import hashlib

    real = os.path.realpath(data_root)
    return "00000000" if real == _DEFAULT_ROOT else hashlib.sha256(os.fsencode(real)).hexdigest()[:8]


def run(
    configuration: Configuration,
    reload: Callable[[], Configuration],
    environ: MutableMapping[str, str],
    build: Build,
) -> int:
    """Be the daemon until a signal ends it; return the exit status.

    Raises an error of the family when it cannot start; everything is undone then.
    """
    logs.set_up(configuration.log_level, configuration.log_format)
    os.umask(0o022)  # what a service manager or a shell left must not decide over modes in containers
    _limits()
    if sys.version_info < (3, 12):  # later versions choose it themselves
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    return asyncio.run(_Daemon(configuration, reload, environ, build).live())


class _Daemon:
    def __init__(
        self,
        configuration: Configuration,
        reload: Callable[[], Configuration],
        environ: MutableMapping[str, str],
        build: Build,
    ) -> None:
        self._configuration = configuration
        self._reload = reload
        self._environ = environ
        self._build = build
        self._notifier = Notifier(environ)
        self._stop: asyncio.Future[str] | None = None
        self._deadline: threading.Timer | None = None

    async def live(self) -> int:
        loop = asyncio.get_running_loop()
        # Hooks of drivers block for milliseconds in these threads; the default of cpus + 4 is made for computing.
        loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="pyd"))
        self._stop = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)
        began = time.monotonic()
        try:
            async with AsyncExitStack() as undo:
                starting = asyncio.create_task(self._start(undo), name="start")
                either: set[asyncio.Future[Any]] = {starting, self._stop}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
                if not self._stop.done():
                    _log.info("ready after %.2f s", time.monotonic() - began)
                    self._notifier.tell("READY=1", f"STATUS=ready, pid {os.getpid()}")
                reason = await self._stop
                _log.info("stopping (%s); containers run on", reason)
                self._notifier.tell("STOPPING=1")
            _log.info("stopped")
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
        return 0

    async def _start(self, undo: AsyncExitStack) -> None:
        config = self._configuration
        _root(config.data_root, 0o710, "data root")
        _root(config.run_root, 0o711, "run root")
        undo.enter_context(DirectoryLock(config.data_root, "data root"))
        if not config.run_root.samefile(config.data_root):
            undo.enter_context(DirectoryLock(config.run_root, "run root"))
        sockets = Sockets(config.hosts, config.group, self._environ)
        undo.callback(sockets.close)
        loop = asyncio.get_running_loop()
        instance = instance_of(config.data_root)
        # A thread cannot be cancelled: when a signal comes meanwhile, what it builds must still be taken down again.
        building = loop.run_in_executor(None, self._build, config, instance, logging.getLogger("pyd"))
        try:
            engine = await asyncio.shield(building)
        except asyncio.CancelledError:
            await (await building).shut_down()
            raise
        undo.push_async_callback(engine.shut_down)
        await engine.start_up()
        await self._serve(engine, sockets, undo)
        watch = asyncio.create_task(self._notifier.watch(), name="watchdog")
        undo.callback(watch.cancel)

    async def _serve(self, engine: Assembled, sockets: Sockets, undo: AsyncExitStack) -> None:
        from aiohttp import web

        from pyd_daemon.app import Api, make_runner
        from pyd_daemon.system import VERSION

        patience = self._configuration.shutdown_timeout / 2
        runner = await make_runner(Api(engine.backends, VERSION), shutdown_timeout=patience)
        undo.push_async_callback(runner.cleanup)
        undo.push_async_callback(_end_streams, engine)
        for each in sockets.open:
            await web.SockSite(runner, each, backlog=1024).start()
        for host in self._configuration.values["hosts"].raw:
            _log.info("listening on %s", host)

    def _asked_to_stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stop is None or self._stop.done():
            _log.warning("%s again: stopping at once", name)
            _leave()
        self._stop.set_result(name)
        seconds = self._configuration.shutdown_timeout + _GRACE
        self._deadline = threading.Timer(seconds, _too_late, (seconds,))
        self._deadline.daemon = True
        self._deadline.start()

    def _asked_to_reload(self) -> None:
        """SIGHUP: the log level is taken over; of other changes the log says that they need a restart."""
        try:
            fresh = self._reload()
        except ConfigError as error:
            _log.error("reload: the configuration is not taken over: %s", error)
            return
        logs.set_level(fresh.log_level)
        old = self._configuration.values
        changed = [key for key, value in fresh.values.items() if value.raw != old[key].raw and key != "log-level"]
        if fresh.tables != self._configuration.tables:
            changed.append("settings of drivers")
        later = f"; these need a restart: {', '.join(changed)}" if changed else ""
        _log.info("reloaded: log level %s%s", fresh.log_level, later)


async def _end_streams(engine: Assembled) -> None:
    engine.end_streams()
    await asyncio.sleep(0.05)  # for the last chunk of each: what still streams afterwards is cut


def _root(path: Path, mode: int, what: str) -> None:
    """Make a root directory; warn about one that others may write to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=mode)
            path.chmod(mode)  # mkdir's mode goes through the umask
        found = path.stat()
    except OSError as error:
        raise from_oserror(error, f"make the {what} {path}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError([f"the {what} {path} is not a directory"])
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        _log.warning(
            "the %s %s belongs to uid %d with mode %o: others can change it",
            what,
            path,
            found.st_uid,
            stat.S_IMODE(found.st_mode),
        )


def _limits() -> None:
    """As many descriptors as the host allows: every container and every client takes some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:
            _log.warning("raise the limit of open files from %d to %d: %s", soft, hard, error)


def _too_late(seconds: float) -> None:
    _log.error("not stopped after %.0f s: leaving at once", seconds)
    _leave()


def _leave() -> NoReturn:
    logging.shutdown()
    os._exit(1)
