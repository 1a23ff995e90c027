"""One wrapper for every hook that any driver has, made from the contracts themselves.

A contract that gets a new hook is traced without a change here. The price is one look at pluggy's calling frame: a
wrapper that asks for arguments must name them in its code, and these are made for all hooks alike.
"""

from __future__ import annotations

import inspect
import logging
import sys
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any

from pyd_contracts import CONTRACTS, EngineEvents, hookimpl
from pyd_contracts.markers import PROJECT
from pyd_contracts.values import Attachment, NetworkSpec

__all__ = ["tracer"]


def tracer(log: logging.Logger) -> object:
    """An object with a ``wrapper=True`` hook for each hook of each driver contract.

    Every call becomes one line of *log* at debug level: ``storage_prepare(key='c1') by overlay: 0.412 ms``. What a
    driver raises is logged with its class and goes on unchanged.
    """
    members: dict[str, object] = {"__doc__": "Times every call of a driver."}
    for contract in CONTRACTS:
        if contract is EngineEvents:  # 1:N and about plugins: no driver is called
            continue
        for name, hook in inspect.getmembers(contract, inspect.isfunction):
            if hasattr(hook, f"{PROJECT}_spec"):
                members[name] = hookimpl(wrapper=True, tryfirst=True)(_timer(name, log))
    return type("Tracer", (), members)()


def _timer(hook: str, log: logging.Logger) -> Callable[..., Any]:
    def timed(self: object) -> Generator[None, object, object]:  # noqa: ARG001 - pluggy binds it
        if not log.isEnabledFor(logging.DEBUG):
            return (yield)
        driver, subject = _called(sys._getframe(1))
        how = ""
        begun = time.perf_counter()
        try:
            return (yield)
        except BaseException as error:
            how = f", raised {type(error).__name__}: {error}"
            raise
        finally:
            spent = (time.perf_counter() - begun) * 1000
            log.debug("%s(%s) by %s: %.3f ms%s", hook, subject, driver, spent, how)

    timed.__name__ = timed.__qualname__ = hook
    return timed


def _called(frame: FrameType) -> tuple[str, str]:
    """The name of the driver that is about to be called, and the first argument it gets.

    A wrapper is one object around many drivers, and no argument says which one is called. The implementations that
    pluggy's `_multicall` goes through do: the only one that is not a wrapper is the driver. Where a later pluggy calls
    otherwise, both words are lost from the line, and nothing else.
    """
    known = frame.f_locals
    drivers = [each for each in known.get("hook_impls", ()) if not (each.wrapper or each.hookwrapper)]
    subject = [f"{name}={_shown(value)}" for name, value in known.get("caller_kwargs", {}).items()]
    return str(drivers[0].plugin_name) if drivers else "?", subject[0] if subject else ""


def _shown(value: object) -> str:
    """A subject in few words: a 64-digit id tells no more than its first twelve."""
    if isinstance(value, Attachment):
        return f"{value.container[:12]}/{value.ifname} on {value.network.name}"
    if isinstance(value, NetworkSpec):
        return f"{value.name} ({value.id[:12]})"
    if isinstance(value, str) and len(value) == 64:
        return value[:12]
    return repr(value)
