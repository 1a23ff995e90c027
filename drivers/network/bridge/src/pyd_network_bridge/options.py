"""The options of a network, in Docker's words: read, checked, each refusal naming the option.

Compose files work as they are (https://docs.docker.com/engine/network/drivers/bridge/#options). A word under our or Docker's
prefix for bridges that nobody knows is refused: an option that is silently not honoured is worse than an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyd_contracts.errors import InvalidArgument

__all__ = [
    "ANTI_SPOOFING",
    "BRIDGE",
    "MTU",
    "check_known",
    "flag",
    "host_binding",
    "interfaces",
    "mode",
    "mtu",
    "source",
]

BRIDGE = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"
ANTI_SPOOFING = "pyd.bridge.anti_spoofing"
_MODES = ("nat", "nat-unprotected", "routed", "isolated")
_KNOWN = frozenset(
    {
        *(
            BRIDGE + word
            for word in (
                "default_bridge", "enable_icc", "enable_ip_masquerade", "gateway_mode_ipv4", "gateway_mode_ipv6",
                "host_binding_ipv4", "inhibit_ipv4", "name", "trusted_host_interfaces",
            )
        ),
        ANTI_SPOOFING,
    }
)  # fmt: skip
_TRUE, _FALSE = frozenset({"true", "1", "t", "yes", "on"}), frozenset({"false", "0", "f", "no", "off"})
_INTERFACE = re.compile(r"[^\s/\"\\{},]{1,15}\Z")


def check_known(options: Mapping[str, str]) -> None:
    """Raise InvalidArgument for a word under our prefixes that means nothing."""
    for key in options:
        if key.startswith((BRIDGE, "pyd.bridge.")) and key not in _KNOWN:
            near = difflib.get_close_matches(key, sorted(_KNOWN), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidArgument(f"option {key} is not known to the network driver bridge{hint}")


def flag(options: Mapping[str, str], key: str, default: bool) -> bool:
    """A truth value."""
    value = options.get(key, "").lower()
    if not value:
        return default
    if value not in _TRUE | _FALSE:
        raise InvalidArgument(f"option {key}={options[key]!r}: true or false are possible")
    return value in _TRUE


def mtu(options: Mapping[str, str]) -> int:
    """Bytes; 0 leaves the kernel's."""
    value = options.get(MTU, "")
    if not value:
        return 0
    if not value.isascii() or not value.isdigit() or not (int(value) == 0 or 68 <= int(value) <= 65535):
        raise InvalidArgument(f"option {MTU}={value!r}: a number of bytes between 68 and 65535 is possible")
    return int(value)


def mode(options: Mapping[str, str], version: int, *, internal: bool) -> str:
    """How a family is reached and reaches out."""
    key = f"{BRIDGE}gateway_mode_ipv{version}"
    value = options.get(key, "") or "nat"
    if value not in _MODES:
        raise InvalidArgument(f"option {key}={value!r}: {', '.join(_MODES)} are possible")
    if value == "isolated" and not internal:
        raise InvalidArgument(
            f"option {key}=isolated: only an internal network can do without its gateway (--internal)"
        )
    return value


def interfaces(options: Mapping[str, str]) -> tuple[str, ...]:
    """``trusted_host_interfaces``: names with ``:`` between them."""
    key = BRIDGE + "trusted_host_interfaces"
    names = tuple(name for name in options.get(key, "").split(":") if name)
    for name in names:
        if not _INTERFACE.match(name):
            raise InvalidArgument(f"option {key}: {name!r} is no name of an interface; write eth0:eth1")
    return names


def source(options: Mapping[str, str], version: int) -> IPv4Address | IPv6Address | None:
    """``com.docker.network.host_ipv4``: the address of this host that translated packets leave from."""
    return _address(options, f"com.docker.network.host_ipv{version}", version)


def host_binding(options: Mapping[str, str]) -> IPv4Address | IPv6Address | None:
    """``host_binding_ipv4``: where ports are published when nothing else is said. The engine heeds it; it is checked here."""
    return _address(options, BRIDGE + "host_binding_ipv4", 4)


def _address(options: Mapping[str, str], key: str, version: int) -> IPv4Address | IPv6Address | None:
    text = options.get(key, "")
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"option {key}={text!r}: {error}") from error
    if address.version != version:
        raise InvalidArgument(f"option {key}={text!r}: an IPv{version} address is possible")
    return address
