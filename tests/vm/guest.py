"""What runs in a throw-away virtual machine before the command does: an initial RAM disk of busybox and a script.

The guest's root is the host's, read-only, under an overlay on tmpfs: same paths, same Python, and every write vanishes.
Set-up uses busybox's own applets, because host programs over a shared file system are slow to start under emulation.
"""

from __future__ import annotations

import lzma
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import kernels

# In the initial RAM disk, in this order with what they need; everything else loads by itself through /sbin/modprobe.
_FIRST = {"uml": ("overlay",), "qemu": ("virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay")}
_ALSO = ("ext4", "loop", "dm-mod", "fuse")  # without udev nobody would load these for a missing /dev node

_INIT = r"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
die() { echo "vm: $*"; poweroff -f; sleep 9; }
share() { # share TAG HOST-PATH MOUNT-POINT ro|rw
  if [ $ENGINE = uml ]; then mount -t hostfs -o $4,$2 none $3
  elif [ $4 = ro ]; then mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose $1 $3
  else mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none $1 $3; fi || die "cannot mount $2"; }
. /conf
for module in $MODULES; do insmod /modules/$module.ko || echo "vm: insmod $module failed"; done
mount -t tmpfs -o mode=755,size=75% rw /rw; mkdir /rw/upper /rw/work
share root / /ro ro
mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work,index=off,xino=off,metacopy=off,redirect_dir=on \
  root /new || die "cannot mount the root overlay"
cd /new; mkdir -p proc sys dev run tmp vmtmp vmshare lib/modules
share job $JOB /new/vmshare rw
mount --bind /ro$KERNEL/lib/modules /new/lib/modules
mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t securityfs none /sys/kernel/security; mount -t bpf none /sys/fs/bpf
sed 's/\([a-z_]*\) */+\1 /g' /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
for d in pts shm mqueue; do mkdir -p /dev/$d; done
mount -t mqueue mqueue /dev/mqueue; mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts; [ -e /dev/ptmx ] || ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mount -t tmpfs -o mode=755 run run; mkdir -p run/lock run/netns
mount -t ext4 $SCRATCH vmtmp || mount -t tmpfs -o mode=1777 vmtmp vmtmp; chmod 1777 vmtmp
for d in sys dev; do mount --move /$d /new/$d; done
mount -t proc proc proc
ip link set lo up; hostname vm; echo 1 > proc/sys/net/ipv4/ip_forward
mkdir run/.vm; cp /bin/busybox run/.vm/; exec switch_root /new /run/.vm/busybox sh /vmshare/second
"""

SECOND = r"""
cd /run/.vm; mkfifo out err; cat <out >/vmshare/out & o=$!; cat <err >/vmshare/err & e=$!
: >/vmshare/begun
/bin/sh /vmshare/command </dev/null >out 2>err; status=$?
(sleep 1; kill $o $e) & wait $o $e  # what the command left running may still hold the pipes
echo $status >/vmshare/status.new; mv /vmshare/status.new /vmshare/status; poweroff -f
"""


@dataclass(frozen=True, slots=True)
class Conf:
    """What the guest's first script is told: engine, unpacked kernel, shared directory, the device for $TMPDIR."""

    engine: str
    kernel: Path
    job: Path
    scratch: str


def initial_ram_disk(conf: Conf, busybox: Path) -> bytes:
    """A cpio archive that the kernel unpacks and runs (newc, early-userspace/buffer-format.rst in Linux)."""
    order = _with_dependencies(conf.kernel, (*_FIRST[conf.engine], *_ALSO))
    told = {"ENGINE": conf.engine, "KERNEL": str(conf.kernel), "JOB": str(conf.job), "MODULES": " ".join(order)}
    told["SCRATCH"] = conf.scratch
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in told.items())
    archive = bytearray()
    for folder in ("bin", "modules", "proc", "sys", "dev", "ro", "rw", "new"):
        archive += _member(folder, 0o040755)
    archive += _member("bin/busybox", 0o100755, busybox.read_bytes())
    for name, path in order.items():
        content = path.read_bytes()
        archive += _member(
            f"modules/{name}.ko", 0o100644, lzma.decompress(content) if path.suffix == ".xz" else content
        )
    archive += _member("conf", 0o100644, text.encode())
    archive += _member("init", 0o100755, _INIT.encode())
    archive += _member("TRAILER!!!", 0)
    return bytes(archive)


def _with_dependencies(kernel: Path, names: Iterable[str]) -> dict[str, Path]:
    """The files of modules *names* and of all that they need, in an order in which they can be loaded."""
    order: dict[str, Path] = {}
    for name in names:
        asked = ["modprobe", "-d", str(kernel), "-S", kernels.modules(kernel).name, "--show-depends", name]
        for line in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines():
            word, _, path = line.strip().partition(" ")
            if word == "insmod":
                file = Path(path.split()[0])
                order.setdefault(file.name.split(".ko")[0], file)
    return order


def _member(name: str, mode: int, content: bytes = b"") -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)
