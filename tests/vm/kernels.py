"""Kernels for throw-away virtual machines: fetched from the distribution, unpacked into a cache, nothing installed.

``uml``   Debian's user-mode-linux: a kernel that is an ordinary program. Native code, starts in three seconds.
``qemu``  Debian's own kernel under emulation: slow, and complete (nftables, cpuset).

Cache: /var/cache/pyd-vm, or $PYD_VM_CACHE.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

ENGINES = ("uml", "qemu")
_SIGNATURE = b"~Module signature appended~\n"


class Unavailable(Exception):
    """No virtual machine can be had here; the message says why and what would help."""


def cache() -> Path:
    """Where unpacked kernels are kept."""
    return Path(os.environ.get("PYD_VM_CACHE", "/var/cache/pyd-vm"))


def present(engine: str) -> Path | None:
    """The unpacked kernel of *engine* if it is in the cache already: ``kernel`` and ``lib/modules/VERSION``."""
    folder = cache() / engine
    return folder if (folder / "kernel").is_file() else None


def ensure(engine: str) -> Path:
    """The unpacked kernel of *engine*, fetched if need be (some 40 MB for uml, 100 MB for qemu). Raises Unavailable."""
    if folder := present(engine):
        return folder
    for program in ("apt-get", "apt-cache", "dpkg-deb", "depmod"):
        if shutil.which(program) is None:
            raise Unavailable(
                f"no {engine} kernel in {cache()}, and none can be fetched: there is no {program} here"
                " (it comes with Debian and its package kmod)"
            )
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{engine}.", dir=cache()) as name:
        tree = Path(name, "tree")
        (_unpack_uml if engine == "uml" else _unpack_qemu)(Path(name), tree)
        tree.chmod(0o755)
        with suppress(FileNotFoundError):
            shutil.rmtree(cache() / engine)
        tree.rename(cache() / engine)
    return cache() / engine


def modules(folder: Path) -> Path:
    """The directory ``lib/modules/VERSION`` of an unpacked kernel."""
    [found] = (folder / "lib" / "modules").iterdir()
    return found


def _unpack_uml(work: Path, tree: Path) -> None:
    _fetch("user-mode-linux", work, tree)
    (tree / "lib").mkdir(exist_ok=True)
    (tree / "usr/lib/uml/modules").rename(tree / "lib/modules")
    (tree / "usr/bin/linux.uml").rename(tree / "kernel")
    _run(["depmod", "-b", str(tree), modules(tree).name], "index the modules")


def _unpack_qemu(work: Path, tree: Path) -> None:
    _fetch(_newest_kernel_package(), work, tree)
    version = modules(tree).name
    for path in list((tree / "lib/modules").rglob("*.ko.xz")):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    for path in (tree / "lib/modules").rglob("*.ko"):
        _strip_signature(path)
    _run(["depmod", "-b", str(tree), version], "index the modules")
    (tree / "kernel").write_bytes(_elf_inside((tree / f"boot/vmlinuz-{version}").read_bytes()))


def _fetch(package: str, work: Path, tree: Path) -> None:
    """Download the .deb of *package* and unpack it; package lists are refreshed once if it is not found at first."""
    download = ["apt-get", "-q", "download", "-o", "APT::Sandbox::User=root", package]
    if subprocess.run(download, cwd=work, capture_output=True, check=False).returncode != 0:
        _run(["apt-get", "-q", "update"], f"refresh package lists to find {package}")
        _run(download, f"download the package {package}", work)
    [deb] = work.glob("*.deb")
    _run(["dpkg-deb", "-x", str(deb), str(tree)], f"unpack {deb.name}")
    deb.unlink()


def _newest_kernel_package() -> str:
    """The package behind the newest kernel meta package (backported kernels know more than the release's own)."""
    for refresh in (False, True):
        if refresh:
            _run(["apt-get", "-q", "update"], "refresh package lists to find a kernel")
        for meta in ("linux-image-6.12-amd64", "linux-image-amd64"):
            out = subprocess.run(["apt-cache", "depends", meta], capture_output=True, text=True, check=False).stdout
            if found := re.search(r"^ *Depends: (linux-image-\d\S*)$", out, re.MULTILINE):
                return found[1]
    raise Unavailable("no kernel package is known to apt-get (asked for linux-image-6.12-amd64, linux-image-amd64)")


def _run(command: list[str], doing: str, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Unavailable(f"could not {doing}: {command[0]} said: {' / '.join(said) or f'status {done.returncode}'}")


def _strip_signature(path: Path) -> None:
    """Take a module's signature off: checking one costs 50 ms under emulation. Format: scripts/sign-file.c in Linux."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 40))
        tail = file.read()
        if tail.endswith(_SIGNATURE):
            [length] = struct.unpack(">I", tail[8:12])
            file.truncate(size - 40 - length)


def _elf_inside(image: bytes) -> bytes:
    """The uncompressed kernel of a bzImage: it boots through its PVH note, and the guest need not decompress it."""
    packers = {
        b"\xfd7zXZ\0": ["xz", "-dc", "--single-stream"],
        b"\x28\xb5\x2f\xfd": ["zstd", "-dcq"],
        b"\x02\x21\x4c\x18": ["lz4", "-dc"],
        b"\x1f\x8b\x08": ["gzip", "-dc"],
    }
    for magic, command in packers.items():
        if shutil.which(command[0]) is None:
            continue
        for match in re.finditer(re.escape(magic), image):
            out = subprocess.run(command, input=image[match.start() :], capture_output=True, check=False).stdout
            if out[:4] == b"\x7fELF":
                return out
    raise Unavailable("no kernel was found inside the image (xz, zstd, lz4 and gzip are known; are they installed?)")
