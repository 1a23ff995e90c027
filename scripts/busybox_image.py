"""Container images made on the spot from this host's static busybox: demo, tests and bench need no registry.

Where there is no static busybox, the image holds one program that is assembled here, byte by byte, for the two
architectures most hosts have: something that runs without a shared library must exist, or nothing can be shown.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import struct
import tarfile
from pathlib import Path

_APPLETS = """
sh ash awk cat chmod chown cp cut date dd df dmesg echo env expr false find free grep head hostname id ifconfig ip kill ln
ls mkdir mkfifo mknod mount mv nc nslookup ping ps pwd readlink rm rmdir route sed seq sha256sum sleep sort stat stty
sync tail tar tee test timeout top touch tr true tty umount uname vi wc wget which whoami xargs yes
"""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64", "ppc64le": "ppc64le"}
_PT_INTERP = 3


def is_static(program: Path) -> bool:
    """Whether *program* is an ELF file that asks for no dynamic loader: no PT_INTERP among its headers, elf(5)."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return False
        wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
        offset, size, count = (
            (struct.unpack_from(f"{order}Q", head, 32)[0], *struct.unpack_from(f"{order}HH", head, 54))
            if wide
            else (struct.unpack_from(f"{order}I", head, 28)[0], *struct.unpack_from(f"{order}HH", head, 42))
        )
        file.seek(offset)
        table = file.read(size * count)
    return all(struct.unpack_from(f"{order}I", table, each * size)[0] != _PT_INTERP for each in range(count))


def static_busybox() -> Path | None:
    """The host's busybox if it is linked statically (Debian: busybox-static)."""
    found = {Path("/bin/busybox"), Path("/usr/bin/busybox"), Path(shutil.which("busybox") or "/bin/busybox")}
    return next((path for path in sorted(found) if path.is_file() and is_static(path)), None)


def hello_program(machine: str | None = None) -> bytes:
    """A static ELF program of some 300 bytes that writes two lines, its pid among them, and exits with 0.

    *machine* as uname(2) says it; x86_64 and aarch64 are known. LookupError for others.
    """
    text = b"Hello from a container of pyd: this program is bare machine code,\nand in here its process id is ?.\n"
    where = text.index(b"?")
    machine = machine or platform.machine()
    if machine == "x86_64":
        code, number = _x86_64(len(text), where), 62
    elif machine == "aarch64":
        code, number = _aarch64(len(text), where), 183
    else:
        raise LookupError(f"no machine code for {machine!r} here; install a static busybox (Debian: busybox-static)")
    base, start = 0x400000, 64 + 56
    size = start + len(code) + len(text)
    head = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 0, 2, number, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, base, base, size, size, 0x10000)  # one segment, rwx: it writes the digit
    return head + load + code + text


def _x86_64(length: int, where: int) -> bytes:
    """getpid; digit into the text; write(1, text, length); exit(0)."""
    after = bytes.fromhex("bf01000000") + b"\xba" + struct.pack("<I", length)  # mov edi,1; mov edx,length
    after += bytes.fromhex("b8010000000f05") + bytes.fromhex("31ffb83c0000000f05")  # write; xor edi,edi; exit
    before = bytes.fromhex("b8270000000f050430")  # mov eax,39 (getpid); syscall; add al,'0'
    digit = b"\x88\x46" + bytes([where])  # mov [rsi+where],al
    lea = b"\x48\x8d\x35" + struct.pack("<i", len(digit) + len(after))  # lea rsi,[rip+...]: the text follows the code
    return before + lea + digit + after


def _aarch64(length: int, where: int) -> bytes:
    """getpid; digit into the text; write(1, text, length); exit(0)."""

    def movz(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    svc, count = 0xD4000001, 12
    distance = (count - 3) * 4  # adr is instruction 3, the text follows the last one
    adr_x1 = 0x10000000 | (distance & 3) << 29 | (distance >> 2) << 5 | 1
    strb = 0x39000000 | where << 10 | 1 << 5 | 0  # strb w0, [x1, #where]
    words = [movz(8, 172), svc, 0x11000000 | 0x30 << 10, adr_x1, strb, movz(0, 1), movz(2, length), movz(8, 64), svc]
    words += [movz(0, 0), movz(8, 93), svc]
    return struct.pack(f"<{count}I", *words)


def rootfs_tar() -> bytes:
    """A root file system as a tar archive: busybox and its applets, or the program of `hello_program` as /hello."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"):
            _add(archive, name, kind=tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        _add(archive, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        busybox = static_busybox()
        if busybox is None:
            _add(archive, "hello", hello_program(), mode=0o755)
        else:
            _add(archive, "bin/busybox", busybox.read_bytes(), mode=0o755)
            for applet in _APPLETS.split():
                _add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, target="busybox")
    return buffer.getvalue()


def docker_archive(reference: str = "busybox:latest") -> bytes:
    """The same root file system as `docker save` writes images; loads as *reference*; always the same bytes."""
    layer = rootfs_tar()
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "static busybox"}],
        },
        sort_keys=True,
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, name, config)
        _add(archive, digest, kind=tarfile.DIRTYPE, mode=0o755)
        _add(archive, f"{digest}/layer.tar", layer)
        _add(archive, "manifest.json", manifest)
    return buffer.getvalue()


def _add(
    archive: tarfile.TarFile,
    name: str,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    target: str = "",
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, len(content), target
    archive.addfile(info, io.BytesIO(content))


def write_to(folder: Path, reference: str = "busybox:latest") -> Path:
    """Write `docker_archive` into *folder* and return its path."""
    path = folder / "busybox.docker.tar"
    path.write_bytes(docker_archive(reference))
    os.chmod(path, 0o644)
    return path
