"""Values of the flags of `run` and `create` that are more than a text: each function reads one flag's value.

ValueError carries the reason in docker's words; the flag parser adds which flag it was.
"""

from __future__ import annotations

import os
import re
from typing import Any

from pyd_cli.errors import CliError
from pyd_cli.units import parse_duration, parse_size


def memory_swap(text: str) -> int:
    return -1 if text == "-1" else parse_size(text)


def nano_cpus(text: str) -> int:
    """Billionths of a CPU of `1.5` or `3/2`, exactly."""
    whole, slash, divisor = text.partition("/")
    sign = -1 if whole.startswith("-") else 1
    integer, _, decimals = whole.lstrip("+-").partition(".")
    if not (integer + decimals).isdigit() or (slash and not divisor.isdigit()) or divisor.strip("0") == "" != divisor:
        raise ValueError(f"failed to parse {text} as a rational number")
    scaled = int(integer + decimals) * 10**9
    parts: int = 10 ** len(decimals) * int(divisor or 1)
    if scaled % parts:
        raise ValueError("value is too precise")
    return sign * scaled // parts


def duration(text: str) -> int:
    """Nanoseconds."""
    return parse_duration(text)


def stream(text: str) -> str:
    name = text.lower()
    if name not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return name


def environment(text: str) -> str:
    if not text or text.startswith("="):
        raise ValueError(f"invalid environment variable: {text}")
    return text


def label(text: str) -> str:
    if not text or text.startswith("="):
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def extra_host(text: str) -> str:
    """`host:ip` or `host=ip`, as `host:ip`."""
    cut = min((at for at in (text.find("="), text.find(":")) if at >= 0), default=-1)
    host, address = (text[:cut], text[cut + 1 :]) if cut > 0 else ("", "")
    if not host or not address:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway" and not is_address(address):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{host}:{address}"


def is_address(text: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def address(text: str) -> str:
    if not is_address(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def ulimit(text: str) -> dict[str, Any]:
    """`nofile=1024:2048`; without a hard limit it is the soft one."""
    names = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in names:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if colon else soft
    except ValueError:
        raise ValueError(f"invalid ulimit value: {limits}") from None
    if hard != -1 and (soft > hard or soft == -1):
        shown = "unlimited" if soft == -1 else str(soft)
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {shown} > {hard}")
    return {"Name": name, "Soft": soft, "Hard": hard}


def sysctl(text: str) -> str:
    if "=" not in text:
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


def weight_device(text: str) -> dict[str, Any]:
    path, weight = _device_pair(text)
    if not weight.isdigit() or (int(weight) and not 10 <= int(weight) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def byte_rate(text: str) -> dict[str, Any]:
    path, rate = _device_pair(text)
    try:
        return {"Path": path, "Rate": parse_size(rate)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def operation_rate(text: str) -> dict[str, Any]:
    path, rate = _device_pair(text)
    if not rate.isdigit():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(rate)}


def _device_pair(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path.startswith("/dev/"):
        raise ValueError(f"bad format: {text}" if not colon else f"bad format for device path: {text}")
    return path, value


def device(text: str) -> dict[str, Any]:
    """`/dev/a[:/dev/b][:rwm]`; or `vendor.com/class=name`, a request to the Container Device Interface."""
    if _CDI_NAME.fullmatch(text):
        return {"Driver": "cdi", "Count": 0, "DeviceIDs": [text], "Capabilities": None, "Options": None}
    source, *rest = text.split(":")
    target, permissions = source, "rwm"
    if len(rest) > 2 or not source:
        raise ValueError(f"invalid device specification: {text}")
    if len(rest) == 2:
        target, permissions = rest
    elif rest:
        if is_device_mode(rest[0]):
            permissions = rest[0]
        else:
            target = rest[0]
    if not is_device_mode(permissions):
        raise ValueError(f"bad mode specified: {permissions}")
    return {"PathOnHost": source, "PathInContainer": target or source, "CgroupPermissions": permissions}


_CDI_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*")


def is_device_mode(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def gpus(text: str) -> dict[str, Any]:
    """`all`, a number, or `device=0,capabilities=utility`: a device request."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [], "Options": {}}
    capabilities: list[str] = []
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", field
        if key == "count":
            if value != "all" and not value.lstrip("-").isdigit():
                raise ValueError(f'invalid count ({value}): value must be either "all" or an integer')
            request["Count"] = -1 if value == "all" else int(value)
        elif key == "driver":
            request["Driver"] = value
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            capabilities = value.split(",")
        elif key == "options":
            request["Options"] = dict(item.partition("=")[::2] for item in value.split(","))
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    request["Capabilities"] = [[*capabilities, "gpu"] if "gpu" not in capabilities else capabilities]
    return request


def csv_fields(text: str) -> list[str]:
    """One line of comma separated values; a field in double quotes may hold commas (RFC 4180)."""
    if '"' not in text:
        return text.split(",")
    fields, field, quoted, at = [], "", False, 0
    while at < len(text):
        char = text[at]
        if char == '"':
            if quoted and text[at + 1 : at + 2] == '"':
                field += '"'
                at += 1
            else:
                quoted = not quoted
        elif char == "," and not quoted:
            fields.append(field)
            field = ""
        else:
            field += char
        at += 1
    if quoted:
        raise ValueError('parse error: extraneous or missing " in quoted-field')
    return [*fields, field]


def restart_policy(text: str) -> dict[str, Any]:
    """`always`, `on-failure:3` … The daemon knows which names there are."""
    name, colon, count = text.partition(":")
    if not name and colon:
        raise CliError("invalid restart policy format: no policy provided before colon", 125)
    if colon and (not count.isdigit() if count else True):
        raise CliError("invalid restart policy format: maximum retry count must be an integer", 125)
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def read_env_file(path: str, keep_unset: bool = False) -> list[str]:
    """The variables of a file of `NAME=value` lines; `NAME` alone takes this process's value, when it has one."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as fault:
        raise CliError(f"open {path}: {(fault.strerror or str(fault)).lower()}", 125) from fault
    found = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.rstrip(b"\r").decode().lstrip()
        except UnicodeDecodeError:
            raise CliError(f"invalid env file ({path}): invalid utf8 bytes at line {number}: {raw!r}", 125) from None
        if not line or line.startswith("#"):
            continue
        name, equals, _ = line.partition("=")
        name = name.lstrip()
        if not name:
            raise CliError(f"invalid env file ({path}): no variable name on line '{line}'", 125)
        if equals:
            if any(char.isspace() for char in name):
                raise CliError(f"invalid env file ({path}): variable '{name}' contains whitespaces", 125)
            found.append(line)
        elif (name := name.strip()) in os.environ or keep_unset:
            found.append(f"{name}={os.environ.get(name, '')}")
    return found


def filled(name: str) -> str:
    """`-e NAME`: with this process's value, or bare (which removes the image's) when it has none."""
    if "=" in name:
        return name
    return f"{name}={os.environ[name]}" if name in os.environ else name


def as_map(items: list[str]) -> dict[str, str]:
    """`["a=1", "b"]` as {"a": "1", "b": ""}."""
    return {key: value for key, _, value in (item.partition("=") for item in items)}
