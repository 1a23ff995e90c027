"""A real distribution as an image: Debian as debootstrap makes it, made once a run and kept in a temporary directory."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from engines import Missing

__all__ = ["root_archive"]


@functools.cache
def root_archive() -> bytes:
    """The root file system as a tar archive. Missing where there is no debootstrap, or no Debian to take it from."""
    if shutil.which("debootstrap") is None:
        raise Missing("debootstrap is not installed")
    folder = Path(tempfile.mkdtemp(prefix="bench-distribution."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    suite, mirror = _source()
    root = folder / "root"
    _run("debootstrap", "--variant=minbase", suite, root, mirror)
    # what is about this machine is in no image
    _run("tar", "-C", root, "--numeric-owner", "--xattrs", "--exclude=./var/cache/apt/archives/*.deb", "--exclude=./dev/*",
         "-cf", folder / "root.tar", ".")  # fmt: skip
    shutil.rmtree(root)
    return (folder / "root.tar").read_bytes()


def _source() -> tuple[str, str]:
    """The release this machine is of, and where apt has it from."""
    facts = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = facts.get("VERSION_CODENAME", "").strip('"')
    form = ["--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    for line in _run("apt-get", "indextargets", *form).splitlines():
        place, _, name = line.partition(" ")
        if name == suite:
            return suite, place
    raise Missing(f"apt has no source of {suite or 'this release'}")


def _run(*command: str | Path) -> str:
    try:
        return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise Missing(f"{command[0]} failed: {(error.stderr or error.stdout)[-500:]}") from error
