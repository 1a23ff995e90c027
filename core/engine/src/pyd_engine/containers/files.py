"""The small files the engine gives each container: hostname, hosts, resolv.conf (bind-mounted over the image's)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pyd_contracts.errors import from_oserror

__all__ = ["hosts_text", "name_servers", "options_of", "resolv_conf_text", "text_of", "write_files"]

_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


def hosts_text(
    hostname: str, domainname: str, addresses: Sequence[str], extra: Sequence[str], gateway: str,
    links: Sequence[tuple[str, str]] = (),
) -> str:  # fmt: skip
    """/etc/hosts: the loopback names, ``--add-host`` entries (``host-gateway`` means *gateway*), those it is linked to (address
    and names), the container itself."""
    lines = [_LOCAL_HOSTS]
    for entry in extra:
        name, _, address = entry.partition("=" if "=" in entry and ":" not in entry.partition("=")[0] else ":")
        address = address.strip("[]")
        lines.append(f"{gateway if address == 'host-gateway' else address}\t{name}\n")
    lines += [f"{address}\t{names}\n" for address, names in links]
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines += [f"{address}\t{names}\n" for address in addresses]
    return "".join(lines)


def resolv_conf_text(
    host: str, servers: Sequence[str], search: Sequence[str], options: Sequence[str], *, own_namespace: bool
) -> str:
    """/etc/resolv.conf from the host's, with ``--dns``, ``--dns-search`` and ``--dns-opt`` in its place.

    In a namespace of its own a container cannot reach a resolver on the host's loopback: such servers are left out.
    """
    kept: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in host.split("\n"):
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            if not (own_namespace and (words[1].startswith("127.") or words[1] == "::1")):
                kept["nameserver"].append(words[1])
        elif words[0] in ("search", "domain"):
            kept["search"] = words[1:]
        elif words[0] == "options":
            kept["options"] += words[1:]
    if servers:
        kept["nameserver"] = list(servers)
    if search:
        kept["search"] = [] if list(search) == ["."] else list(search)
    if options:
        kept["options"] = list(options)
    text = "".join(f"nameserver {server}\n" for server in kept["nameserver"])
    for word in ("search", "options"):
        if kept[word]:
            text += f"{word} {' '.join(kept[word])}\n"
    return text


def name_servers(text: str) -> list[str]:
    """The servers that a resolv.conf(5) names."""
    lines = [line.split("#")[0].split(";")[0].split() for line in text.split("\n")]
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def options_of(text: str) -> list[str]:
    """The options that a resolv.conf(5) sets."""
    lines = [line.split("#")[0].split(";")[0].split() for line in text.split("\n")]
    return [word for words in lines if words and words[0] == "options" for word in words[1:]]


def text_of(path: str) -> str:
    """The beginning of a file of the host; empty when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(65536)
    except OSError:
        return ""


def write_files(directory: Path, contents: dict[str, str]) -> None:
    """Write each text in place: a running container's bind mount shows the inode, so files are not replaced."""
    try:
        for name, text in contents.items():
            fd = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                os.write(fd, text.encode("utf-8", "surrogateescape"))
            finally:
                os.close(fd)
    except OSError as error:
        raise from_oserror(error, f"write {', '.join(contents)} in {directory}") from error
