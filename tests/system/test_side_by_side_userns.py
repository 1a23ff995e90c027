"""pydd with `userns-remap` beside an installed dockerd with it: the same docker commands, the same answers."""

# ruff: noqa: E501 # each line is one command, as it is typed

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine_under_test import Daemon, subordinate_ids
from rival import Side, ask_both, dockerd, faults
from test_side_by_side import make_folder

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.dockerd, pytest.mark.slow]
Sides = tuple[Side, Side]
FIRST = 300_000
WHO = "nobody:nogroup"  # for `default` dockerd would add a user to this host

LINES: dict[str, str] = {
    "who it is": r"""
run --rm --network none busybox id
run --rm --network none busybox cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
run --rm --network none busybox grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status
run --rm busybox stat -c '%u:%g %a %n' / /etc /etc/hosts /etc/resolv.conf /etc/hostname /dev /dev/null /dev/pts /dev/shm /dev/mqueue /proc /sys /tmp /bin/busybox
run --rm --network none -t busybox sh -c 'tty; stat -c "%u:%g %a" $(tty)'
run --rm --network none -t -u 1000 busybox sh -c 'stat -c "%u" $(tty); echo hi >/dev/stdout'
run --rm --network none -u 1000:1000 busybox sh -c 'id -u; id -g; echo hi >/dev/stdout; touch /x'
run --rm --network none -u 65535 busybox id -u
run --rm --network none --group-add 777 busybox id -G
run --rm --network none -w /made busybox stat -c %u:%g:%a /made
run --rm --network none busybox sh -c 'touch /f; chown 5:6 /f; chmod 4755 /f; stat -c %u:%g:%a /f; chown 65536 /f'
run --rm --network none busybox sh -c 'cat /proc/1/environ >/dev/null && ls /proc/1/fd >/dev/null && echo open'
""",
    "what opts out": r"""
run --rm --network none --userns host busybox cat /proc/self/uid_map
run --rm --network none --userns host busybox stat -c %u:%g / /bin/busybox /etc/hosts
run --rm --network host --userns host busybox cat /proc/self/uid_map
run --rm --network none --pid host --userns host busybox cat /proc/self/uid_map
create --name opted --userns host busybox
inspect -f '{{.HostConfig.UsernsMode}}' opted
create --name plain busybox
inspect -f '{{.HostConfig.UsernsMode}}' plain
info -f '{{range .SecurityOptions}}{{println .}}{{end}}'
""",
    "what is refused": r"""
run --rm --privileged busybox true
run --rm --network host busybox true
run --rm --pid host busybox true
run --rm --ipc host --network none busybox true
run --rm --uts host --network none busybox true
run --rm --cgroupns host --network none busybox true
run --rm --userns private --network none busybox true
run --rm --userns nosuch --network none busybox true
run --rm --userns container:x --network none busybox true
run --rm --privileged --network host busybox true
create --name cc --privileged busybox
run --rm --network none --read-only busybox touch /x
run --rm --network none -u 65536 busybox true
run --rm --network none -u 100000:100000 busybox true
run --rm --network none --group-add 70000 busybox id -G
""",
    "powers inside": r"""
run --rm --network none --cap-add sys_admin busybox mount -t tmpfs x /mnt
run --rm --network none --cap-add net_admin busybox ip link add name d0 type dummy
run --rm --network none --cap-add all busybox mknod /n c 1 3
run --rm --network none --cap-add all busybox sh -c 'echo 1 >/proc/sys/kernel/panic'
run --rm --network none --cap-add all busybox sh -c 'hostname other; hostname'
run --rm --network none --cap-drop all busybox chown 5 /etc/hosts
run --rm --network none --security-opt no-new-privileges busybox grep NoNew /proc/self/status
run --rm --network none --ulimit nofile=99:99 busybox sh -c 'ulimit -n; ulimit -Hn'
run --rm --network none --oom-score-adj 300 busybox cat /proc/self/oom_score_adj
run --rm --network none -m 64m busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes
run --rm --network none --pids-limit 50 busybox cat /sys/fs/cgroup/pids/pids.max
run --rm --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward
run --rm --network none --sysctl kernel.shmmax=5000 busybox cat /proc/sys/kernel/shmmax
run --rm --network none --hostname hh --domainname dd.org busybox sh -c 'hostname; hostname -f; cat /proc/sys/kernel/domainname'
run --rm --network none --device /dev/zero:/dev/mine busybox sh -c 'head -c 3 /dev/mine | wc -c'
run --rm --network none --device /dev/fuse busybox stat -c %t:%T /dev/fuse
run --rm --network none --tmpfs /t busybox stat -c %u:%g:%a /t
run --rm --network none --tmpfs /t:uid=5,gid=6,mode=700 busybox stat -c %u:%g:%a /t
run --rm --network none --shm-size 1m busybox df -k /dev/shm
run --rm --network none --init busybox sh -c 'readlink /proc/1/exe; stat -c %u:%g /sbin/docker-init'
run --rm busybox sh -c 'ping -c 1 -W 2 127.0.0.1 | grep received'
""",
    "binds": r"""
run --rm --network none -v {here}/bind:/b busybox sh -c 'stat -c %u:%g:%a /b /b/file; cat /b/file; touch /b/new'
run --rm --network none -v {here}/open:/b busybox sh -c 'touch /b/new; stat -c %u:%g /b/new; chown 7:8 /b/new; stat -c %u:%g /b/new'
run --rm --network none --userns host -v {here}/open:/b busybox stat -c %u:%g /b/new
run --rm --network none -v {here}/open:/b:ro busybox touch /b/no
run --rm --network none -v {here}/open/secret:/s busybox cat /s
run --rm --network none -v {here}/made:/b busybox sh -c 'stat -c %u:%g:%a /b; touch /b/x && stat -c %u:%g /b/x'
run --rm --network none -v {here}/made/deep/er:/b busybox sh -c 'stat -c %u:%g:%a /b; touch /b/x && stat -c %u:%g /b/x'
run --rm --network none --mount type=bind,src={here}/nosuch,dst=/b busybox true
run --rm --network none -v {here}/closed/in:/b busybox cat /b/file
run --rm --network none -v {here}/open:/b:z busybox true
""",
    "volumes": r"""
volume create vv
run --rm --network none -v vv:/v busybox sh -c 'stat -c %u:%g:%a /v; touch /v/f; chown 7:8 /v/f; stat -c %u:%g /v/f'
run --rm --network none -v vv:/v busybox stat -c %u:%g /v/f
run --rm --network none -u 1000 -v vv:/v busybox touch /v/g
run --rm --network none -v /etc busybox sh -c 'stat -c %u:%g /etc/passwd; touch /etc/x; stat -c %u:%g /etc/x'
run --name anon --network none -v /data busybox sh -c 'touch /data/x; stat -c %u:%g:%a /data /data/x'
run --rm --network none --volumes-from anon busybox stat -c %u:%g /data/x
run --rm --network none --mount type=volume,src=vv,dst=/v,readonly busybox touch /v/no
run --rm --network none --mount type=tmpfs,dst=/v busybox stat -c %u:%g:%a /v
volume rm -f vv
""",
    "files": r"""
run -d --name ff --network none -v {here}/open:/b busybox sh -c 'touch /made; chown 7:8 /made; exec sleep 1000'
cp {here}/bind/file ff:/in
exec ff stat -c %u:%g:%a /in
cp -a {here}/bind/file ff:/in-a
exec ff stat -c %u:%g:%a /in-a
cp {here}/bind ff:/tree
exec ff stat -c %u:%g:%a /tree /tree/file
cp ff:/in {here}/out
cp ff:/nosuch {here}/out
cp {here}/bind/file ff:/b/copied
exec ff stat -c %u:%g /b/copied
cp {here}/bind/file ff:/etc/hosts
exec ff cat /etc/hosts
cp ff:/etc/hosts {here}/hosts
exec -u 1000 ff sh -c 'id -u; echo hi >/dev/stdout'
exec ff cat /proc/self/uid_map
exec --privileged ff grep CapEff /proc/self/status
exec -t ff tty
diff ff
commit ff committed
run --rm --network none committed stat -c %u:%g /made /in /bin/busybox
run --rm --network none --userns host committed stat -c %u:%g /made /in /bin/busybox
top ff -o uid,args
restart -t 0 ff
exec ff stat -c %u:%g /made
stop -t 0 ff
cp {here}/bind/file ff:/stopped
cp ff:/made {here}/made-out
start ff
exec ff stat -c %u:%g /stopped
rm -f ff
rmi committed
""",
    "networks and other containers": r"""
network create nn
run -d --name serve --network nn -p 127.0.0.1::80 busybox sh -c 'echo hello >/index.html; exec httpd -f -p 80 -h /'
run --rm --network nn busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://serve/ && exit; sleep 0.2; done'
run --rm --network container:serve busybox sh -c 'wget -q -O - http://127.0.0.1/; id -u; ip -o -4 addr | wc -l'
run --rm --network container:serve --userns host busybox true
run --rm --network none --pid container:serve --userns host busybox id -u
run -d --name hostly --userns host busybox sleep 1000
run --rm --network container:hostly busybox true
run --rm --network none --pid container:hostly busybox true
run --rm --network none --pid container:serve busybox sh -c 'stat -c %u:%g /proc/1; kill -0 1 && echo may'
run --rm --network none --ipc container:serve busybox true
run -d --name shares --network none --ipc shareable busybox sleep 1000
run --rm --network none --ipc container:shares busybox stat -c %u:%g:%a /dev/shm
exec serve ip link set lo down
exec serve ip addr add 192.0.2.1/32 dev lo
rm -f serve shares hostly
network rm nn
""",
}  # fmt: skip

DIFFERENT: dict[str, str] = {
    "run --rm busybox stat -c '%u:%g %a %n' / /etc /etc/hosts /etc/resolv.conf /etc/hostname /dev /dev/null /dev/pts /dev/shm /dev/mqueue /proc /sys /tmp /bin/busybox": "device nodes are the container's, with its owners; mqueue's root, which everybody may write to, is nobody's",
    "run --rm --network none --userns host busybox stat -c %u:%g / /bin/busybox /etc/hosts": "images are not stored once more for each map",
    "info -f '{{range .SecurityOptions}}{{println .}}{{end}}'": "since 22.06 the default profile is called builtin",
    "run --rm --ipc host --network none busybox true": "refused before anything is made, in the words of the other modes",
    "run --rm --network none -u 65536 busybox true": "the runtime's words",
    "run --rm --network none -u 100000:100000 busybox true": "the runtime's words",
    "run --rm --network none --group-add 70000 busybox id -G": "the runtime's words",
    "run --rm --network none --hostname hh --domainname dd.org busybox sh -c 'hostname; hostname -f; cat /proc/sys/kernel/domainname'": "runc cannot",
    "run --rm --network none --device /dev/zero:/dev/mine busybox sh -c 'head -c 3 /dev/mine | wc -c'": "runc cannot",
    "run --rm --network none --init busybox sh -c 'readlink /proc/1/exe; stat -c %u:%g /sbin/docker-init'": "it is shown with the container's owners",
    "run --rm --network none --userns host committed stat -c %u:%g /made /in /bin/busybox": "images are not stored once more for each map",
    "run --rm --network container:hostly busybox true": "refused before anything is made, with the reason",
    "run --rm --network none --pid container:hostly busybox true": "refused before anything is made, with the reason",
    "cp {here}/bind/file ff:/etc/hosts": "dockerd's helper program's words",
    "exec --privileged ff grep CapEff /proc/self/status": "capabilities of later kernels, and none that the daemon has not",
}
"""Lines that are answered otherwise, and why."""

UNORDERED = {"diff ff"}


@pytest.fixture(scope="module")
def sides(
    new_pydd: Callable[..., Daemon],
    client_environment: dict[str, str],
    image_archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sides]:
    """dockerd and pydd, both remapping to the same ids, both with the busybox image."""
    folders = [tmp_path_factory.mktemp(name) for name in ("ranges", "theirs", "ours")]
    text = "".join(f"{name}:{FIRST}:65536\n" for name in WHO.split(":"))
    with subordinate_ids(folders[0], text):
        here = [furnish(folder / "here", image_archive) for folder in folders[1:]]
        daemon = new_pydd(f'userns-remap = "{WHO}"\n')
        own = ((str(here[1]), "HERE"), (str(daemon.data), "DATA"), (daemon.url, "URL"), (str(daemon.root), "ROOT"))
        ours = Side("pydd", daemon.url, here[1], client_environment, own)
        ours.ask(f"load -q -i {image_archive}")
        with dockerd(here[0], client_environment, "--userns-remap", WHO) as theirs:
            yield theirs, ours
        daemon.close()


def furnish(folder: Path, archive: Path) -> Path:
    """`make_folder`, with directories that are more and less open; all above are, for dockerd reaches binds as nobody."""
    make_folder(folder, archive)
    for name, mode in (("open", 0o777), ("closed", 0o700), ("closed/in", 0o755)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    (folder / "open" / "secret").write_text("secret\n")
    (folder / "open" / "secret").chmod(0o600)
    (folder / "closed" / "in" / "file").write_text("content\n")
    for each in folder.parents[: len(folder.parents) - 2]:  # what pytest made, below /tmp
        each.chmod(each.stat().st_mode | 0o011)
    return folder


@pytest.fixture(autouse=True)
def cleared(sides: Sides) -> Iterator[None]:
    """Neither side keeps a container from one test to the next."""
    yield
    for side in sides:
        side.clear()


@pytest.mark.parametrize("section", LINES)
def test_the_same_words_give_the_same_answer(sides: Sides, section: str) -> None:
    lines = [line for line in LINES[section].splitlines() if line]
    found = faults(sides, lines, DIFFERENT, UNORDERED)
    assert not found, f"{len(found)} of {len(lines)} lines:\n\n" + "\n\n".join(found)


def test_who_owns_what_on_the_host(sides: Sides) -> None:
    """What containers and the daemon for them make in directories of the host."""
    lines = [
        "run --rm --network none -v {here}/open:/b busybox sh -c 'touch /b/root; chown 7:8 /b/root; mkdir /b/dir'",
        "run --rm --network none -u 1000:1000 -v {here}/open:/b busybox touch /b/user",
        "run --rm --network none -v {here}/auto/deep:/b busybox touch /b/x",
        "create --name cc --network none busybox",
        "cp {here}/bind/file cc:/in",
        "cp cc:/in {here}/open/out",
        "cp cc:/bin/busybox {here}/open/busybox",
    ]
    for _line, (theirs, ours) in ask_both(sides, lines):
        assert theirs.status == ours.status == 0, f"{theirs}\n{ours}"
    names = ["open/root", "open/dir", "open/user", "auto", "auto/deep", "auto/deep/x", "open/out", "open/busybox"]
    found = [[(side.folder / name).stat() for name in names] for side in sides]
    owners = [[(each.st_uid, each.st_gid, oct(each.st_mode)) for each in several] for several in found]
    assert dict(zip(names, owners[1], strict=True)) == dict(zip(names, owners[0], strict=True))


def test_every_reason_belongs_to_a_line() -> None:
    assert not (set(DIFFERENT) | UNORDERED) - {line for text in LINES.values() for line in text.splitlines()}
