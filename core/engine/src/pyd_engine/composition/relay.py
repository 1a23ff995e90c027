"""One driver behind its contract, with any number of wrappers around it.

pluggy checks of an implementation only that it asks for no unknown argument: a missing hook, a forgotten ``@hookimpl``
and a default value that hides the caller's argument all pass. So everything is checked here, before anything is
registered, and reported in one message. One `pluggy.PluginManager` per driver, because a hook is 1:N and a driver call
is 1:1.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Generic, TypeVar, cast

import pluggy

from pyd_contracts.errors import DriverFault, InvalidArgument, PydError
from pyd_contracts.markers import PROJECT
from pyd_engine.composition.slots import Slot

__all__ = ["ContractError", "HookNames", "Relay", "hooks_of", "implementations", "parameters_of", "wrapper_faults"]

C = TypeVar("C")
P = TypeVar("P")
HookNames = dict[str, tuple[str, ...]]
_IMPL = f"{PROJECT}_impl"
_SPEC = f"{PROJECT}_spec"


class ContractError(InvalidArgument):
    """A driver does not honour the contract it was loaded for; `faults` lists all that is wrong with it."""

    def __init__(self, who: str, faults: list[str]) -> None:
        super().__init__(f"{who} does not fulfil its contract: " + "; ".join(faults))
        self.faults = tuple(faults)


class Relay(Generic[C]):
    """One driver behind one contract.

    >>> relay.call.storage_remove(name="x")  # doctest: +SKIP

    Every answer and every error comes through: errors of the family as they are, anything else as a DriverFault that
    names the driver and the hook and keeps the cause. An answer that is an iterator is drawn inside the relay, so that
    its errors are the hook's errors.
    """

    def __init__(self, slot: Slot[C], name: str, driver: object) -> None:
        """Raises ContractError; nothing is half registered then."""
        self.slot = slot
        self.name = name
        self.who = f"{slot.kind} driver {name!r}"
        faults: list[str] = []
        self.capabilities = _capabilities(driver, faults)
        contracts: list[type[object]] = [slot.contract]
        contracts += [power for word, power in slot.powers.items() if word in self.capabilities]
        undeclared = {hook: word for word, power in slot.powers.items() for hook in hooks_of(power)}
        self._contracts = tuple(contracts)
        self._hooks: HookNames = {}
        for contract in contracts:
            self._hooks.update(hooks_of(contract))
        faults += _faults(driver, self._hooks, undeclared)
        if faults:
            raise ContractError(self.who, faults)
        self._manager = _Manager(self._hooks)
        for contract in contracts:
            self._manager.add_hookspecs(contract)
        self._manager.register(driver, name=name)
        self._manager.register(_shield(self.who, self._hooks), name=f"{name} (errors)")
        self._manager.check_pending()
        self._calls = _calls(self.who, self._hooks, self._manager)
        self._calls.capabilities = self.capabilities

    def __repr__(self) -> str:
        return f"<Relay {self.who}>"

    @property
    def call(self) -> C:
        """The contract's own methods; the type checker knows them. Arguments by keyword or in the contract's order.

        The driver's ``capabilities`` are there too, so that it may be handed on where a driver is expected.
        """
        return cast("C", self._calls)

    def power(self, contract: type[P]) -> P | None:
        """The methods of a further contract, or None when the driver did not declare it."""
        return cast("P", self._calls) if contract in self._contracts else None

    def wrap(self, plugin: object, name: str) -> tuple[str, ...]:
        """Put the wrappers that *plugin* has for this contract around the driver; return the hooks they cover.

        Raises ContractError when one of them cannot be a wrapper here; none is put around then.
        """
        mine = {hook: function for hook, function in implementations(plugin).items() if hook in self._hooks}
        if faults := wrapper_faults(mine, self._hooks):
            raise ContractError(f"plugin {name!r}", faults)
        if mine:
            self._manager.register(plugin, name=f"plugin {name}")
        return tuple(sorted(mine))

    def close(self) -> None:
        """Call the contract's own close hook, where it has one."""
        for hook in self._hooks:
            if hook.endswith("_close"):
                getattr(self._calls, hook)()


class _Manager(pluggy.PluginManager):
    """Looks at the relay's own hooks only: a plugin may implement more, and properties are left alone."""

    def __init__(self, hooks: HookNames) -> None:
        super().__init__(PROJECT)
        self._known = hooks

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        return super().parse_hookimpl_opts(plugin, name) if name in self._known else None


def hooks_of(contract: type[object]) -> HookNames:
    """The hooks of a contract and the names of their parameters, in order.

    >>> from pyd_contracts.storage import LayerTargets
    >>> hooks_of(LayerTargets)
    {'storage_layer_target': ('key',)}
    """
    found = inspect.getmembers(contract, inspect.isfunction)
    return {name: tuple(parameters_of(function)) for name, function in found if hasattr(function, _SPEC)}


def implementations(plugin: object) -> dict[str, Callable[..., Any]]:
    """Everything marked ``@hookimpl`` on an object's class, looked at without running properties."""
    found = ((name, _function(plugin, name)) for name in dir(type(plugin)))
    return {name: function for name, function in found if function is not None and hasattr(function, _IMPL)}


def wrapper_faults(functions: Mapping[str, Callable[..., Any]], hooks: HookNames) -> list[str]:
    """What keeps *functions*, by hook, from being put around drivers that have *hooks*."""
    faults = []
    for hook, function in functions.items():
        if not getattr(function, _IMPL).get("wrapper"):
            faults.append(f"{hook}: a plugin may only wrap this hook: mark it @hookimpl(wrapper=True)")
        elif not inspect.isgeneratorfunction(function):
            faults.append(f"{hook}: a wrapper yields once; this one has no yield")
        elif unknown := [word for word in parameters_of(function) if word not in hooks[hook]]:
            faults.append(f"{hook}: unknown parameters {', '.join(unknown)}; known: {', '.join(hooks[hook]) or 'none'}")
    return faults


def _function(plugin: object, name: str) -> Callable[..., Any] | None:
    found = inspect.getattr_static(type(plugin), name, None)
    if isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    return found if inspect.isfunction(found) else None


def _capabilities(driver: object, faults: list[str]) -> frozenset[str]:
    given = getattr(driver, "capabilities", None)
    if isinstance(given, frozenset) and all(isinstance(each, str) for each in given):
        return given
    faults.append("capabilities: must be a frozenset of strings" + ("" if given is not None else ", and is missing"))
    return frozenset()


def _faults(driver: object, hooks: HookNames, undeclared: Mapping[str, str]) -> list[str]:
    faults = [fault for hook, wants in sorted(hooks.items()) if (fault := _fault(driver, hook, wants))]
    for name in implementations(driver):
        if name in undeclared and name not in hooks:
            faults.append(f"{name}: implemented, but capability {undeclared[name]!r} is not declared")
        elif name not in hooks:
            near = difflib.get_close_matches(name, hooks, n=1)
            faults.append(f"{name}: the contract has no such hook" + (f"; did you mean {near[0]}?" if near else ""))
    return faults


def _fault(driver: object, hook: str, wants: tuple[str, ...]) -> str | None:
    function = _function(driver, hook)
    if function is None:
        return f"{hook}: not implemented"
    if not hasattr(function, _IMPL):  # a driver that subclasses its contract inherits the specification itself
        return f"{hook}: not implemented" if hasattr(function, _SPEC) else f"{hook}: not marked @hookimpl"
    options = getattr(function, _IMPL)
    if options.get("wrapper") or options.get("hookwrapper"):
        return f"{hook}: a driver answers and does not wrap"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return f"{hook}: is async; hooks are synchronous"
    signature = inspect.signature(function)
    plain = [p for p in signature.parameters.values() if p.name != "self"]
    has = str(inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in plain]))
    usable = all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in plain)
    if [p.name for p in plain] != list(wants) or not usable:
        return f"{hook}: takes {has}, the contract says ({', '.join(wants)})"
    return None


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """The names of a hook's parameters, in order, without self."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def _shield(who: str, hooks: Iterable[str]) -> object:
    """The innermost wrapper: what the driver raises becomes an error of the family before any other wrapper sees it."""

    def around(hook: str) -> Callable[..., Any]:
        def shield(self: object) -> Any:  # noqa: ARG001 - pluggy binds it
            try:
                answer = yield
                return list(answer) if isinstance(answer, Iterator) else answer
            except PydError:
                raise
            except (Exception, SystemExit) as error:  # a driver's sys.exit must not end the daemon
                raise DriverFault(f"{who}: {hook}: {type(error).__name__}: {error}") from error

        return shield

    mark = pluggy.HookimplMarker(PROJECT)
    members = {hook: mark(wrapper=True, trylast=True)(around(hook)) for hook in hooks}
    return type("Shield", (), members)()


def _calls(who: str, hooks: HookNames, manager: pluggy.PluginManager) -> SimpleNamespace:
    """The outer side: every argument is given (pluggy only warns), and wrappers' errors are of the family too."""

    def outside(hook: str, names: tuple[str, ...]) -> Callable[..., Any]:
        caller = getattr(manager.hook, hook)
        wanted = frozenset(names)

        def call(*positional: Any, **named: Any) -> Any:
            if positional:
                named.update(zip(names, positional, strict=False))
            if named.keys() != wanted or len(positional) > len(names):
                raise TypeError(f"{hook} takes ({', '.join(names)}), not ({', '.join(named)})")
            try:
                return caller(**named)
            except PydError:
                raise
            except (Exception, SystemExit) as error:
                raise DriverFault(f"a wrapper around {who}: {hook}: {type(error).__name__}: {error}") from error

        call.__name__ = call.__qualname__ = hook
        return call

    return SimpleNamespace(**{hook: outside(hook, names) for hook, names in hooks.items()})
