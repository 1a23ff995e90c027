"""What both daemons are asked, and which differences between their answers are meant: data of `test_side_by_side`.

Left out is what one host's dockerd may do and another's not (pulls without a network, privileged containers under a
restricted runc), what dockerd takes 15 s for (it looks
for a plugin by that name), and what pydd does not offer yet: a line is added with the feature.
"""

# ruff: noqa: E501 # each line is one command, as it is typed

from __future__ import annotations

__all__ = ["DIFFERENT", "FIELDS", "LINES", "OLDER"]

OLDER: tuple[tuple[str, str], ...] = (
    (r"DATA/volumes/", "DATA/volume/local/"),
    (
        r"invalid restart policy '(\w+)'",
        r"invalid restart policy: unknown policy '\1'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ),
    # the runtime's name and its wrapper's: ours is neither runc nor a shim of containerd
    (
        r"failed to create shim task: OCI runtime create failed: runc create failed: ",
        "failed to create task for container: ",
    ),
    (r"unable to start container process: ", ""),
    (r"(failed to create task for container: .*): unknown$", r"\1"),
    (r"(OCI runtime exec failed: .*): unknown$", r"\1"),
    # what is no program of its own fault has no prefix at pydd
    (r"failed to create task for container: (?!exec: )", ""),
    (
        r"failed to create task for container: exec: (.*): unknown( false)?$",
        r"failed to create task for container: exec: \1\2",
    ),
    (r'(exec: "/etc"): permission denied', r"\1: is a directory"),
    # since 23.0 errors begin with a small letter
    (r"(Error response from daemon: |container: \w+: )Container ID is", r"\1container ID is"),
    (r"Error response from daemon: Container (\w+) is paused", r"Error response from daemon: container \1 is paused"),
    (r"Error response from daemon: Cannot kill container", "Error response from daemon: cannot kill container"),
    (r"(Error response from daemon: |^)Invalid (filter|signal|value|IPC)", r"\1invalid \2"),
    (r"^Unrecognised filter value", "unrecognized filter value"),
    (r"Error response from daemon: No command specified", "Error response from daemon: no command specified"),
    (r"Unable to find (user|group)", r"unable to find \1"),
    # since 27.0
    (r"^(f[ef]00::)0\t", r"\1\t"),
)
"""Patterns and what later versions of dockerd say; applied to both sides."""

LINES: dict[str, str] = {
    "run: programs, users, networks, mounts": r"""
run --rm busybox sh -c 'echo out; echo err >&2; exit 7'
run --rm --network none busybox true
run --rm --network none busybox nosuch
run --rm --network none busybox /etc
run --rm --network none busybox /nosuch/file
run --rm --network none --entrypoint "" busybox sh -c 'echo hi'
run --rm --network none --entrypoint /nosuch busybox a b
run --rm --network none busybox sh -c 'kill -9 $$'
run --rm --network none busybox sh -c 'kill -15 $$; sleep 1'
run --rm --network none -i busybox cat <<< hello\nworld\n
run --rm --network none -t busybox tty
run --rm --network none -t busybox stty -a
run --rm --network none -i busybox sh <<< exit 3\n
run --rm --network none -e A=1 -e B= -e NOPE --env-file {here}/env busybox sh -c 'env | sort'
run --rm --network none --env-file {here}/noenv busybox env
run --rm --network none -e =x busybox env
run --rm --network none -t -e TERM busybox env
run --rm --network none -w /made/dir busybox pwd
run --rm --network none -w relative busybox pwd
run --rm --network none -w /etc/passwd busybox pwd
run --rm --network none -w /made/dir busybox stat -c '%a %u %g' /made/dir
run --rm --network none -u nobody busybox id
run --rm --network none -u 1234 busybox id
run --rm --network none -u 1234:5678 busybox sh -c 'id -u; id -g; id -G; echo $HOME'
run --rm --network none -u nobody busybox sh -c 'echo $HOME; pwd; touch /x'
run --rm --network none -u nobody:daemon busybox id
run --rm --network none -u nosuchuser busybox id
run --rm --network none -u root:nosuchgroup busybox id
run --rm --network none -u -1 busybox id
run --rm --network none -u 99999999999 busybox id
run --rm --network none -u 4294967295 busybox id
run --rm --network none --group-add 777 --group-add daemon busybox id -G
run --rm --network none --group-add nosuch busybox id
run --rm --network nope busybox true
run --rm --network container:nope busybox true
run --rm --network none busybox ls /sys/class/net
run --rm --network bridge busybox ls /sys/class/net
run --rm -v {here}/bind:/b busybox sh -c 'cat /b/file; echo x >/b/new'
run --rm --network none -v {here}/bind:/b:ro busybox sh -c 'cat /b/file; echo x >/b/new'
run --rm --network none -v {here}/made/here:/b busybox stat -c '%a %u' /b
run --rm --network none -v {here}/bind:relative busybox true
run --rm --network none -v {here}/bind:/ busybox true
run --rm --network none -v {here}/bind:/b:nope busybox true
run --rm --network none -v {here}/bind:/b:ro,rw busybox true
run --rm --network none -v {here}/bind:/b -v {here}/bind:/b busybox true
run --rm --network none -v {here}/bind/file:/etc busybox true
run --rm --network none -v {here}/bind:/etc/passwd busybox true
run --rm --network none -v {here}/bind/file:/some/new/file busybox cat /some/new/file
run --rm --network none --mount type=bind,src={here}/bind,dst=/b busybox ls /b
run --rm --network none --mount type=bind,src={here}/nosuch,dst=/b busybox ls /b
run --rm --network none --mount type=bind,src={here}/bind,dst=/b,readonly busybox touch /b/x
run --rm --network none --mount type=nope,dst=/t busybox true
run --rm --network none --mount type=bind,src=rel,dst=/t busybox true
run --rm --network none --mount type=tmpfs,src=/x,dst=/t busybox true
""",
    "run: names, tmpfs, capabilities, limits of processes": r"""
run --rm --network none --hostname h.example busybox sh -c 'hostname; cat /etc/hostname; cat /etc/hosts'
run --rm --network none --hostname -bad- busybox hostname
run --rm --hostname hh --domainname dd.org busybox sh -c 'hostname; hostname -f; cat /etc/hosts; cat /proc/sys/kernel/domainname'
run --rm --network none --read-only busybox sh -c 'touch /x; touch /tmp/y; touch /dev/shm/z; touch /etc/hosts; echo $?'
run --rm --network none --tmpfs /tmp:exec,nope=1 busybox true
run --rm --network none --tmpfs relative busybox true
run --rm --network none busybox grep Cap /proc/self/status
run --rm --network none -u nobody busybox grep Cap /proc/self/status
run --rm --network none -u nobody --cap-add net_admin busybox grep Cap /proc/self/status
run --rm --network none --cap-drop all busybox grep Cap /proc/self/status
run --rm --network none --cap-drop all --cap-add CAP_CHOWN busybox grep Cap /proc/self/status
run --rm --network none --cap-add sys_admin --cap-drop mknod busybox grep Cap /proc/self/status
run --rm --network none --cap-add nope busybox true
run --rm --network none --cap-drop nope busybox true
run --rm --network none --security-opt no-new-privileges busybox grep -E 'NoNew|Secc' /proc/self/status
run --rm --network none --security-opt seccomp=unconfined busybox grep -E 'NoNew|Secc' /proc/self/status
run --rm --network none --security-opt nope busybox true
run --rm --network none --security-opt nope=x busybox true
run --rm --network none --ulimit nofile=100:200 --ulimit core=0 busybox sh -c 'ulimit -n; ulimit -Hn; ulimit -c'
run --rm --network none --ulimit nope=1 busybox true
run --rm --network none --ulimit nofile=200:100 busybox true
""",
    "run: resources, namespaces, resolver, devices": r"""
run --rm --network none --memory 64m --pids-limit 50 --cpus 0.5 --cpu-shares 512 busybox true
run --rm --network none --memory 1m busybox true
run --rm --network none --memory 64m --memory-swap 32m busybox true
run --rm --network none --memory-swap 64m busybox true
run --rm --network none --cpus 100 busybox true
run --rm --network none --cpuset-cpus 99 busybox true
run --rm --network none --cpuset-cpus x busybox true
run --rm --network none --cpu-period 1 busybox true
run --rm --network none --cpu-quota 1 busybox true
run --rm --network none --oom-score-adj 500 busybox cat /proc/self/oom_score_adj
run --rm --network none --oom-score-adj 5000 busybox true
run --rm --network none busybox cat /proc/self/oom_score_adj
run --rm --network none --init busybox sh -c 'cat /proc/1/comm; cat /proc/1/cmdline | tr "\0" " "'
run --rm --network none --sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=65536 busybox sh -c 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax'
run --rm --network none --sysctl kernel.hostname=x busybox true
run --rm --network none --sysctl net.ipv4.nope=x busybox true
run --rm --network host --sysctl net.ipv4.ip_forward=1 busybox true
run --rm --network none --sysctl kernel.nope=x busybox true
run --rm --dns 1.2.3.4 --dns-search a.b --dns-option ndots:3 busybox cat /etc/resolv.conf
run --rm --network none busybox cat /etc/resolv.conf
run --rm busybox cat /etc/resolv.conf
run --rm --dns nope busybox true
run --rm --add-host a.b:1.2.3.4 --add-host c:::1 busybox cat /etc/hosts
run --rm --add-host nope busybox true
run --rm --network host --add-host a.b:1.2.3.4 busybox grep a.b /etc/hosts
run --rm --network none --stop-signal SIGUSR1 busybox true
run --rm --network none --stop-signal SIGNOPE busybox true
run --rm --network none --label a=b --label c --label-file {here}/labels busybox true
run --rm --network none --cidfile {here}/cid busybox true
run --rm --network none --cidfile {here}/cid busybox true
run --rm --network none --pid host busybox sh -c 'readlink /proc/1/exe >/dev/null; echo $?'
run --rm --network none --pid nope busybox true
run --rm --network none --pid container:nope busybox true
run --rm --network none --uts host busybox true
run --rm --network none --uts host --hostname x busybox true
run --rm --network none --uts nope busybox true
run --rm --network none --ipc host busybox grep shm /proc/mounts
run --rm --network none --ipc none busybox grep shm /proc/mounts
run --rm --network none --ipc nope busybox true
run --rm --network none --shm-size 1m busybox grep shm /proc/mounts
run --rm --network none --shm-size 0 busybox grep shm /proc/mounts
run --rm --network none --device /dev/nosuch busybox true
run --rm --network none --device /dev/null:/dev/mine:xyz busybox true
run --rm --network none --name bad/name busybox true
run --rm --network none --name a busybox true
run --rm --network none --restart always busybox true
run --rm --network none --runtime nope busybox true
run --rm --network none --log-opt nope=1 busybox true
run --rm --network none --log-driver none busybox echo hi
run --rm --network none --userns nope busybox true
run --rm --link nobody:x busybox true
run --rm --network none --link nobody:x busybox true
run --rm --network host --link nobody:x busybox true
run --rm --network container:nobody --link nobody:x busybox true
rm --link nobody/x
run --rm --network none --cpu-rt-runtime 5000 --cpu-rt-period 1000 busybox true
run --rm --network none --cpu-rt-runtime 5000 busybox true
run --rm --network none --isolation default busybox true
run --rm --network none --isolation hyperv busybox true
run --rm --network none --isolation nope busybox true
run --rm --network none --cgroupns nope busybox true
run --rm --network none --platform nope busybox true
run --rm --network none --ip 1.2.3.4 busybox true
run --rm --ip 172.30.0.99 busybox true
run --rm --network none --mac-address 02:42:00:00:00:01 busybox true
run --rm --mac-address 02:42:00:00:00:01 busybox cat /sys/class/net/eth0/address
run --rm --mac-address nope busybox true
run --rm --health-cmd true --health-interval 1us --network none busybox true
run --rm --network none -a stdout busybox sh -c 'echo o; echo e >&2'
run --rm --network none -a stderr busybox sh -c 'echo o; echo e >&2; exit 4'
run --network none --name keep busybox sh -c 'exit 5'
run --network none --name keep busybox true
run --rm -d --network none busybox nosuch
run -d --name badstart --network none busybox nosuch
ps -a --filter name=badstart --format '{{.Names}} {{.Status}}'
inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}} {{.State.Running}}' badstart
""",
    "inside a container": r"""
run --rm --network none busybox sh -c 'grep -E "NSpid|^Pid|NSpgid|NSsid" /proc/self/status'
run --rm --network none busybox cat /proc/self/limits
run --rm --network none busybox sh -c 'ulimit -a'
run --rm --network none busybox env
run --rm --network none -t busybox env
run --rm --network none busybox sh -c 'set'
run --rm --network none -t busybox ls -l /dev /dev/pts
run --rm --network none busybox sh -c 'umask; id; pwd'
run --rm --network none busybox id
run --rm busybox sh -c 'cat /etc/hosts /etc/hostname'
run --rm busybox sh -c 'ip route; ip link show lo'
run --rm --network none busybox cat /proc/self/oom_score_adj
run --rm --network none busybox sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; mount -t tmpfs x /mnt; mknod /tmp/x b 7 0; ls -l /tmp/x; dd if=/tmp/x count=1; chroot / true; date -s 12:00 2>&1 | head -1; hostname x'
run --rm --network none busybox sh -c 'cat /proc/self/cgroup | cut -d: -f1,2 | sort'
run --rm --network none busybox sh -c 'cut -d" " -f 4-8,18,19,41 /proc/self/stat; cat /proc/1/comm; cat /proc/1/stat | cut -d" " -f 4-8'
run --rm --network none busybox ls -l /dev
run --rm --network none busybox sh -c 'ls -ln /proc/self/fd | tail -4 | sed s/lrwx/lr-x/'
run --rm --network none busybox sh -c 'ls -la /.dockerenv /etc/mtab | cut -c1-10; ls -1a /; ls -1a /etc'
run --rm --network none busybox sh -c 'grep -E "^(Name|Umask|Uid|Gid|Groups|Cap|NoNew|Secc|Cpus_allowed_list|Mems_allowed_list|TracerPid|Threads)" /proc/self/status'
run --rm busybox sh -c 'ip addr show eth0 | sed "s/^[0-9]*: //; s/@if[0-9]*//; s/qdisc.*//"; ip route; ip link show lo'
run --rm --network none busybox sh -c 'cut -d" " -f 2,3 /proc/mounts | grep -vE "^(/|/proc/interrupts) " | sort'
run --rm --network none busybox sh -c 'grep -E " /(proc|sys|dev|etc)(/[a-z.]*)? " /proc/mounts | grep -vE "interrupts|acpi|firmware" | cut -d" " -f 2,4 | sort'
run --rm --network none --read-only busybox sh -c 'grep -E " (/|/etc/.*) " /proc/mounts | cut -d" " -f 2,4 | cut -c1-20 | sort'
run --rm --network none -v {here}/bind:/b -v {here}/bind:/c:ro --tmpfs /t busybox sh -c 'grep -E " /[bct] " /proc/mounts | cut -d" " -f 2,4 | cut -c1-5 | sort'
run --rm --network none --tmpfs /tmp busybox sh -c 'grep " /tmp " /proc/mounts; stat -c %a /tmp'
run --rm --network none --read-only --tmpfs /run:size=64k,mode=755 busybox sh -c 'grep " /run " /proc/mounts; dd if=/dev/zero of=/run/f bs=1k count=100'
run --rm --network none --device /dev/null:/dev/mine:r busybox ls -l /dev/mine
run --rm --network none busybox stat -c '%a %u %g %F' / /proc /sys /dev /etc/hosts /etc/resolv.conf /etc/hostname /dev/shm /dev/mqueue /dev/pts /tmp
run --rm --network none busybox cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start
run --rm --network none busybox sh -c 'ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/pids/x'
""",
    "odd words": r"""
run --rm --network none -e 'ÄÖ=ü' -e 'A B=c d' -e X==y busybox env
run --rm --network none -w '/with ünï' busybox pwd
run --rm --network none -w /a/../b/./c/ busybox pwd
create --name clean -w /a/../b busybox true
inspect -f '{{.Config.WorkingDir}}' clean
run --rm --network none --name ünïcode busybox true
run --rm --network none busybox ''
run --rm --network none busybox .
run --rm --network none busybox ..
run --rm --network none busybox ' '
run --rm --network none busybox ./bin/true
run --rm --network none -e PATH= busybox echo hi
run --rm --network none -e PATH=/nowhere busybox echo hi
run --rm --network none busybox sh -c 'exit 256'
run --rm --network none --entrypoint echo busybox -n a 'b  c' '' d
create --name odd -l 'a b=c d' -l ü=ä -l e= -l x busybox true
inspect -f '{{json .Config.Labels}}' odd
inspect -f '{{.Name}}' /odd
inspect -f '{{.Name}}' odd/x
inspect -f '{{.Name}}' ''
rename odd x
run --rm --network none --cpuset-cpus '0,' busybox true
run --rm --network none --memory 99999999999999999999 busybox true
run --rm --network none --shm-size 10g busybox grep shm /proc/mounts
run --rm --network none --ulimit nproc=10 --ulimit nproc=20 busybox grep processes /proc/self/limits
run --rm --network none --ulimit locks=5:6 busybox grep locks /proc/self/limits
run --rm --network none -v {here}/bind:/b: busybox ls /b
run --rm --network none -v {here}/bind: busybox ls /b
run --rm --network none -v a:b:c:d busybox ls /b
run --rm --network none -v {here}/bind:/b/../c busybox ls /c
run --rm --network none -v {here}/bind:/b --tmpfs /b busybox true
run --rm --network none -v {here}/bind:/b:consistent,cached busybox ls /b
run --rm --network none -v {here}/bind/file:/etc/hosts busybox cat /etc/hosts
run --rm --network none --tmpfs /t:size=1m,uid=5,gid=6,mode=0700,noexec busybox sh -c 'grep " /t " /proc/mounts; stat -c "%a %u %g" /t'
run --rm --network none --mount type=tmpfs,dst=/t,tmpfs-mode=1777,readonly busybox sh -c 'grep " /t " /proc/mounts; stat -c %a /t'
run --rm --network none --mount type=volume,src=ov,dst=/d,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=64k busybox grep ' /d ' /proc/mounts
volume rm ov
run --rm --network none -u ':1' busybox id
run --rm --network none -u ' root' busybox id
run --rm --network none --cap-add cap_net_admin --cap-add NET_ADMIN busybox grep CapEff /proc/self/status
run --rm --network none --security-opt seccomp={here}/nosuch busybox true
run --rm --network none --security-opt seccomp={here}/bind/file busybox true
run --rm --network none --device-cgroup-rule '' busybox true
run --rm --network none --device /dev/shm busybox true
run --rm --network name=bridge,alias=x busybox true
run --rm --add-host 'h=1.2.3.4' busybox grep h$ /etc/hosts
run --rm -p '[::1]::80' busybox true
run --rm -p 8001-8003:80-81 busybox true
container prune -f --filter until=1h --filter until=2h
container prune -f --filter until=1..2h
""",
    "restarts and signals": r"""
run -d --rm --name again --network none busybox sleep 1000
restart -t 0 again
ps --filter name=again --format '{{.Names}}'
kill again
run -d --name traps --network none --restart always busybox sh -c 'trap "exit 3" TERM; echo ready; while :; do sleep 0.1; done'
exec traps sleep 1
kill -s TERM traps
wait traps
run --rm --network none busybox sleep 1
ps -a --filter name=traps --format '{{.Names}} {{.State}}'
start traps
exec traps sleep 1
pause traps
kill -s TERM traps
wait traps
ps -a --filter name=traps --format '{{.Names}} {{.State}}'
kill -s '' traps
stop -t x traps
start traps traps
rm -f traps
rm -f nosuch1 nosuch2
""",
    "commits and imports with changes": r"""
create --name cc -e A=1 busybox true
commit --change 'ENV PATH=$PATH:/opt B="$A $A" C="\$A"' --change 'ENV D e f' --change 'LABEL x=$A' --change 'WORKDIR /w/$A' --change 'USER $A' --change 'EXPOSE 8$A/udp' --change 'CMD echo $A' cc cm:1
image inspect -f '{{json .Config.Env}} {{json .Config.Labels}} {{.Config.WorkingDir}} {{.Config.User}} {{json .Config.ExposedPorts}} {{json .Config.Cmd}}' cm:1
run --rm --network none cm:1
commit --change 'CMD ["a"' cc cm:2
commit --change 'SHELL ["a","b"]' cc cm:3
import --change 'ENV A=b C=${A:-none} D=${X:-none}' {here}/rootfs.tar cm:4
image inspect -f '{{json .Config.Env}}' cm:4
rmi cm:1 cm:2 cm:4
""",
    "life": r"""
create --name cc --network none busybox sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
create --name cc busybox true
create
create --name bad! busybox
ps
ps -a --format '{{.Names}} {{.Status}} {{.State}} {{.RunningFor}}'
start nosuch
stop nosuch
kill nosuch
pause nosuch
unpause nosuch
restart nosuch
rm nosuch
rm -f nosuch
wait nosuch
logs nosuch
top nosuch
exec nosuch true
attach nosuch
rename nosuch other
inspect nosuch
inspect --type container nosuch
inspect --type image nosuch
exec cc true
attach cc
pause cc
unpause cc
kill cc
stop cc
logs cc
wait cc
rename cc cc
rename cc ''
rename cc bad/name
start cc
start cc
ps --no-trunc --format '{{.Command}}'
rm cc
unpause cc
pause cc
pause cc
exec cc true
kill cc
start cc
stop -t 1 cc
ps -a --format '{{.Names}} {{.State}}'
start cc
pause cc
stop -t 2 cc
ps -a --format '{{.Names}} {{.State}}'
start cc
pause cc
rm cc
rm -f cc
create --name cc --network none busybox sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
start cc
create --name dd --network none busybox sleep 1000
rename cc dd
rename cc ee
rename ee cc
kill -s NOPE cc
kill -s 99 cc
kill -s 0 cc
kill -s TERM cc
wait cc
start -a dd nosuch
start -a -i cc dd
restart -t 1 cc
inspect -f '{{.State.Status}} {{.RestartCount}}' cc
stop -t 5 cc
wait cc dd nosuch
stop cc
kill cc
restart cc
kill -s KILL cc
wait cc
inspect -f '{{.State.ExitCode}} {{.State.Status}} {{.State.OOMKilled}} {{.State.Error}} {{.State.Pid}}' cc
start cc dd nosuch
stop -t 0 cc dd nosuch
rm cc dd nosuch
rm
stop
run -d --name ee --network none --stop-signal USR1 busybox sh -c 'trap "echo usr; exit 9" USR1; while :; do sleep 0.1; done'
stop -t 5 ee
logs ee
inspect -f '{{.State.ExitCode}}' ee
run -d --name ff --network none --stop-timeout 0 busybox sleep 1000
stop ff
inspect -f '{{.State.ExitCode}}' ff
run -d --rm --name hh --network none busybox sleep 1000
rename hh ii
stop -t 0 ii
run -d --name jj busybox sleep 1000
run --rm --network container:jj busybox ls /sys/class/net
run --rm --network container:jj --hostname xx busybox true
run --rm --ipc container:jj --network none busybox true
rm -f jj
attach --no-stdin nosuch
""",
    "exec": r"""
run -d --name xx --network none -e A=1 -w /tmp -u nobody --label l=1 busybox sleep 1000
exec xx sh -c 'echo o; echo ee >&2; exit 3'
exec xx nosuch
exec xx /etc
exec xx /nosuch/prog
exec xx env
exec -t xx env
exec -e A=2 -e B=3 xx env
exec -w / xx pwd
exec -w /nosuch xx pwd
exec xx pwd
exec xx id
exec -u root xx id
exec -u 0:77 xx id
exec -u nosuch xx id
exec -u root xx grep Cap /proc/self/status
exec xx grep Cap /proc/self/status
exec -i xx cat <<< abc\ndef
exec xx cat <<< abc
exec -d xx true
exec -d xx nosuch
exec xx
exec -t xx tty
exec -it xx tty
exec xx sh -c 'kill -9 $$'
exec xx cat /proc/self/oom_score_adj
exec xx sh -c 'ulimit -n; umask'
exec --env-file {here}/env xx env
top xx nope
top xx -o comm
pause xx
exec xx true
unpause xx
stop -t 0 xx
exec xx true
start xx
exec xx echo again
exec --detach-keys nope xx true
exec --detach-keys ctrl-a,b xx true
""",
    "logs": r"""
run --name ll --network none busybox sh -c 'for i in 1 2 3 4 5; do echo $i; done; echo e >&2; printf partial'
logs ll
logs -f ll
logs --tail 0 ll
logs --tail all ll
logs --tail nope ll
logs --tail -1 ll
logs -t ll
logs --since 1h ll
logs --since 2999-01-01 ll
logs --until 2000-01-01 ll
logs --since nope ll
start -a ll
logs ll
create --name ee --network none busybox true
logs ee
logs -f ee
run -d --name tt -t --network none busybox sh -c 'echo a; echo b >&2'
wait tt
logs tt
logs -t tt
attach ll
logs
run --name big --network none busybox sh -c 'head -c 40000 /dev/zero | tr "\0" x'
run --name tagged --network none -e A=1 -l lab=x --log-opt env=A --log-opt labels=lab --log-opt tag={{.Name}}! busybox echo hi
logs --details tagged
run --name opt --network none --log-opt max-size=1k --log-opt max-file=2 busybox echo hi
run --name opt2 --network none --log-opt max-size=nope busybox echo hi
run --name opt3 --network none --log-opt max-file=0 busybox echo hi
run --name opt4 --network none --log-opt mode=nope busybox echo hi
run --name nn --log-driver none --network none busybox echo hi
logs nn
inspect -f '{{json .HostConfig.LogConfig}}' opt
""",
    "top": r"""
run -d --name xx --network none -u nobody busybox sleep 1000
top xx -o comm
exec xx ps -o comm
top nosuch
rm -f xx
top xx
""",
    "ps": r"""
run -d --name two --network none --label a=x busybox sh -c 'sleep 1000; echo a very long command line that is truncated'
run --name three --network none busybox sh -c 'exit 3'
create --name four busybox true
ps -l --format '{{.Names}}'
ps -n 2 --format '{{.Names}}'
ps -a --filter status=exited --format '{{.Names}}'
ps -a --filter status=created --format '{{.Names}}'
ps -a --filter status=nope
ps -a --filter exited=3 --format '{{.Names}}'
ps -a --filter exited=nope
ps -a --filter name=o --format '{{.Names}}'
ps -a --filter name=^/one$ --format '{{.Names}}'
ps -a --filter 'name=['
ps -a --filter id=zzz
ps -a --filter label=a --format '{{.Names}}'
ps -a --filter label=a=b --format '{{.Names}}'
ps -a --filter label=a --filter label=c --format '{{.Names}}'
ps -a --filter ancestor=busybox --format '{{.Names}}'
ps -a --filter ancestor=nosuch
ps -a --filter before=two --format '{{.Names}}'
ps -a --filter since=two --format '{{.Names}}'
ps -a --filter since=nosuch
ps -a --filter network=none --format '{{.Names}}'
ps -a --filter network=nosuch --format '{{.Names}}'
ps -a --filter volume=/b --format '{{.Names}}'
ps -a --filter expose=99 --format '{{.Names}}'
ps -a --filter health=none --format '{{.Names}}'
ps -a --filter health=nope
ps -a --filter is-task=true
ps -a --filter nope=1
ps -a --filter nope
inspect -f '{{.Nope}}' one
inspect -f '{{.State.Nope}}' one
inspect one nosuch -f '{{.Name}}'
""",
    "images": r"""
images -q --no-trunc
images busybox:latest --format '{{.Tag}}'
images 'busy*' --format '{{.Tag}}'
images --filter dangling=true
images --filter dangling=nope
images --filter reference=busybox --format '{{.Tag}}'
images --filter before=nosuch
images --filter label=x
images --filter nope=1
tag busybox other
tag busybox other:2
tag busybox reg.example:5000/a/b:c
tag nosuch x
tag busybox UPPER
tag busybox bad:tag:x
tag busybox 'a:'
tag busybox aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd
tag other sha256:abc
images --format '{{.Repository}}:{{.Tag}}' --filter reference=*/*/*
rmi other
rmi other
rmi nosuch
rmi -f nosuch
rmi ''
inspect --type image -f '{{json .Config}}' busybox
history busybox
history nosuch
create --name u busybox true
rmi busybox
tag busybox other:3
rmi busybox
ps -a --format '{{.Image}}'
tag other:2 busybox
rm u
import {here}/rootfs.tar imp:1
import {here}/rootfs.tar
import --change 'CMD ["/x"]' --change 'ENV A=b' -m msg {here}/rootfs.tar imp:2
import --change 'NOPE x' {here}/rootfs.tar imp:3
import {here}/nosuch imp:3
import - imp:3 <<< notatar
import {here}/rootfs.tar UPPER
inspect --type image -f '{{json .Config.Cmd}} {{json .Config.Env}} {{.Comment}} {{.Os}} {{.Architecture}}' imp:2
history --format '{{.CreatedBy}}|{{.Comment}}' imp:2
run --rm imp:1
run --rm imp:1 nosuch
load <<< notatar
load -i {here}/nosuch
load -i {here}/empty.tar
load -i {here}/rootfs.tar
load -i {here}/busybox.tar
load -q -i {here}/busybox.tar
save nosuch
save -o {here}/saved.tar busybox nosuch
image inspect nosuch
""",
    "volumes": r"""
volume create v1
volume create v1
volume create --label a=b --label c v2
volume create bad!
volume create -o nope=1 v3
volume create -o type=tmpfs v3
volume create -o o=bind v3
volume create -o size=1m v3
volume create x
volume ls
volume ls -q
volume ls --filter label=a
volume ls --filter label=a=x
volume ls --filter name=v1
volume ls --filter driver=local
volume ls --filter driver=nope
volume ls --filter dangling=false
volume ls --filter nope=1
volume inspect nosuch
volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}}' v2
volume rm nosuch
volume rm -f nosuch
volume rm
run --rm --network none -v v1:/d busybox sh -c 'echo x >/d/f; ls /d'
run --rm --network none -v v1:/d:ro busybox touch /d/g
run --rm --network none -v v1:/d:nocopy busybox cat /d/f
run --rm --network none --mount type=volume,src=v1,dst=/d busybox cat /d/f
run --rm --network none --mount type=volume,src=v1,dst=/d,readonly busybox touch /d/g
run --rm --network none --mount type=volume,dst=/d busybox ls /d
run --rm --network none --mount type=volume,src=v1,dst=/d,volume-driver=local,volume-label=x=y busybox cat /d/f
run --rm --network none -v bad!:/d busybox true
run --rm --network none -v v1:/d:rshared busybox true
run --rm --network none -v v1:d busybox true
run --rm --network none -v v1:/ busybox true
run --rm --network none -v v1:/etc busybox ls /etc/passwd
run --rm --network none -v v4:/etc/passwd busybox true
run --rm --network none -v /anon busybox sh -c 'grep -c " /anon " /proc/mounts'
create --name vv --network none -v v1:/d -v v2:/e:ro busybox true
create --name vw --network none -v v1:/d busybox true
run --rm --network none --volumes-from vv busybox sh -c 'cat /d/f; touch /e/x'
run --rm --network none --volumes-from vv:ro busybox touch /d/x
run --rm --network none --volumes-from vv:nope busybox true
run --rm --network none --volumes-from '' busybox true
inspect -f '{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}} {{.Propagation}};{{end}}' vw
rm vw
volume ls --filter dangling=true --filter name=v
volume rm v1
ps -a --filter volume=v1 --format '{{.Names}}'
ps -a --filter volume=/e --format '{{.Names}} {{.LocalVolumes}}'
rm -v vv
volume rm v1 v2 nosuch
volume create -o type=none -o o=bind -o device=/no/such b1
run --rm --network none -v b1:/d busybox true
volume create -o type=tmpfs -o device=tmpfs -o o=size=64k,mode=700 t1
run --rm --network none -v t1:/d busybox sh -c 'stat -c %a /d; grep " /d " /proc/mounts | cut -d" " -f 1-3; dd if=/dev/zero of=/d/f bs=1k count=100'
volume create -o type=nope -o device=x n1
run --rm --network none -v n1:/d busybox true
volume rm b1 t1 n1
volume prune -f --filter nope=1
volume prune --filter label=zzz -f
""",
    "resources": r"""
run -d --name rr --network none -m 64m --cpu-shares 512 busybox sleep 1000
exec rr sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares'
update -m 100m --memory-swap 200m rr
exec rr sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes'
update -m 300m rr
update -m 1m rr
update --cpus 0.5 rr
exec rr sh -c 'cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us'
update --cpu-quota 5000 rr
update --cpu-period 5000 rr
update --cpuset-cpus 99 rr
update --cpuset-cpus 0 rr
exec rr cat /sys/fs/cgroup/cpuset/cpuset.cpus
update --pids-limit 50 rr
exec rr cat /sys/fs/cgroup/pids/pids.max
update --pids-limit -1 rr
exec rr cat /sys/fs/cgroup/pids/pids.max
update --memory-reservation 32m rr
exec rr cat /sys/fs/cgroup/memory/memory.soft_limit_in_bytes
update --memory-reservation 500m rr
update --restart on-failure:3 rr
update --restart nope rr
update --blkio-weight 5 rr
inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.CpuShares}} {{.HostConfig.NanoCpus}} {{json .HostConfig.RestartPolicy}}' rr
update rr
update -m 64m nosuch
stats --no-stream nosuch
stats --no-stream --format '{{.Name}} {{.PIDs}}' rr
stop -t 0 rr
update --cpu-shares 256 rr
inspect -f '{{.HostConfig.CpuShares}}' rr
stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}} {{.CPUPerc}}' rr
run -d --rm --name rs --network none busybox sleep 1000
update --restart always rs
rm -f rs
run --rm --network none --cpus 0.5 busybox cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us
run --rm --network none --cpu-period 50000 --cpu-quota 25000 busybox sh -c 'cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us'
run --rm --network none --cpus 0.5 --cpu-quota 5000 busybox true
run --rm --network none --pids-limit 5 busybox cat /sys/fs/cgroup/pids/pids.max
run --rm --network none -m 64m --memory-swap -1 busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes
run --rm --network none -m 64m --memory-swappiness 10 busybox cat /sys/fs/cgroup/memory/memory.swappiness
run --rm --network none --memory-swappiness 200 busybox true
run --rm --network none --memory-reservation 32m busybox cat /sys/fs/cgroup/memory/memory.soft_limit_in_bytes
run --rm --network none --cpuset-cpus 0 busybox sh -c 'cat /sys/fs/cgroup/cpuset/cpuset.cpus; grep Cpus_allowed_list /proc/self/status'
run --rm --network none --cpuset-mems 99 busybox true
run --rm --network none --device-cgroup-rule 'c 7:* rmw' busybox sh -c 'grep -c "c 7:" /sys/fs/cgroup/devices/devices.list'
run --rm --network none --device-cgroup-rule nope busybox true
run --rm --network none --device-read-bps /dev/nosuch:1mb busybox true
run --rm --network none --blkio-weight 5 busybox true
run --rm --network none --oom-kill-disable -m 64m busybox true
""",
    "files": r"""
run -d --name ff --network none -v {here}/bind:/b -v {here}/bind:/ro:ro busybox sh -c 'mkdir -p /d/e; echo x >/d/f; ln -s f /d/l; ln -s /d /dl; sleep 1000'
exec ff sh -c 'while ! test -e /dl; do sleep 0.1; done'
cp ff:/d/f {here}/f1
cp ff:/d/f {here}/nodir/
cp ff:/d {here}/d1
cp ff:/d/. {here}/d2
cp ff:/nosuch {here}/x
cp ff:/d/nosuch/x {here}/x
cp ff:/d/l {here}/l1
cp -L ff:/d/l {here}/l2
cp ff:/dl/. {here}/d3
cp nosuch:/x {here}/x
cp {here}/nosuch ff:/x
cp {here}/bind/file ff:/new
exec ff cat /new
cp {here}/bind/file ff:/d
exec ff cat /d/file
cp {here}/bind/file ff:/nodir/x
cp {here}/bind ff:/copied
exec ff sh -c 'ls -1 /copied; stat -c "%a %u %g" /copied /copied/file'
cp {here}/bind/file ff:/d/e
cp {here}/d1 ff:/d/f/x
cp {here}/bind/file ff:/ro/x
cp {here}/bind/file ff:/b/y
exec ff cat /b/y
cp {here}/bind/file nosuch:/x
cp ff:/d ff:/e
cp {here}/bind/file {here}/other
diff ff
diff nosuch
export nosuch
commit nosuch x
commit -m msg -a me -c 'ENV A=b' -c 'CMD ["sh","-c","echo $A"]' ff made:1
run --rm --network none made:1
run --rm --network none made:1 sh -c 'cat /new /d/f; ls /copied'
inspect --type image -f '{{.Comment}} {{.Author}} {{json .Config.Cmd}} {{json .Config.Env}} {{len .RootFS.Layers}}' made:1
commit -c 'NOPE x' ff made:2
commit ff UPPER
commit -p=false ff
pause ff
cp ff:/d/f {here}/f2
unpause ff
stop -t 0 ff
cp ff:/d/f {here}/f3
cp {here}/bind/file ff:/stopped
start ff
exec ff cat /stopped
rm -f ff
create --name gg --network none --read-only busybox true
cp {here}/bind/file gg:/x
cp gg:/bin/nosuch {here}/x
rm gg
rmi -f made:1
""",
    "health": r"""
run -d --name hh --network none --health-cmd 'test -e /ok' --health-interval 1h busybox sleep 1000
ps --format '{{.Names}} {{.Status}}' --filter name=hh
ps -q --filter health=starting --format '{{.Names}}'
ps -q --filter health=healthy --format '{{.Names}}'
inspect -f '{{json .Config.Healthcheck}} {{.State.Health.Status}} {{.State.Health.FailingStreak}}' hh
rm -f hh
run -d --name hi --network none --health-cmd 'test -e /ok' --health-interval 200ms --health-retries 1 --health-timeout 3s busybox sleep 1000
exec hi sleep 2
inspect -f '{{.State.Health.Status}}' hi
ps --filter name=hi --filter health=unhealthy --format '{{.Names}}'
exec hi touch /ok
exec hi sleep 2
inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{len .State.Health.Log}}' hi
stop -t 0 hi
inspect -f '{{.State.Health.Status}}' hi
rm hi
run --rm --network none --no-healthcheck busybox true
run --rm --network none --no-healthcheck --health-cmd true busybox true
run --rm --network none --health-interval 1us --health-cmd true busybox true
run --rm --network none --health-retries -1 --health-cmd true busybox true
create --name hj --health-cmd true --health-timeout 10s --health-start-period 5s busybox true
inspect -f '{{json .Config.Healthcheck}}' hj
rm hj
""",
    "networks": r"""
network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}} {{.Labels}}'
network ls
network ls -q --no-trunc
network ls --filter driver=bridge --format '{{.Name}}'
network ls --filter name=host --format '{{.Name}}'
network ls --filter type=builtin --format '{{.Name}}'
network ls --filter type=nope
network ls --filter scope=local --format '{{.Name}}'
network ls --filter scope=nope
network ls --filter dangling=true --format '{{.Name}}'
network ls --filter nope=1
network inspect nosuch
network rm bridge
network rm nosuch
network create n1
network create n1
network create bridge
network create --subnet nope n2
network create --subnet 10.77.0.0/24 --gateway 10.77.0.1 --ip-range 10.77.0.128/25 --label a=b -o x=y --internal n2
network create --subnet 10.77.0.0/25 n3
network create --subnet 10.78.0.0/24 --gateway 10.79.0.1 n3
network create ''
network create --driver host h2
run --rm --network n2 --ip 10.77.0.55 busybox sh -c "ip addr show eth0 | grep -o 'inet [0-9./]*'"
run --rm --network n2 --ip 10.99.0.55 busybox true
run --rm --network n2 --ip 10.77.0.1 busybox true
network prune -f
network rm n2
""",
    "networks: create and inspect": r"""
network create -d macvlan -o parent=lo m1
network create -d macvlan -o parent=nocard m1
network create -d macvlan -o parent=nocard.50 m1
network create -d macvlan -o parent=nocard.x m1
network create -d macvlan -o parent=a.b.c m1
network create -d macvlan -o macvlan_mode=nope -o parent=lo m1
network create --ipam-opt a=b io
network rm io
network create --driver none nn
network create --ingress ig
network create --scope global sg
network create --subnet 10.71.0.0/24 --subnet 10.72.0.0/24 two
network rm two
network create --subnet 10.79.0.0/24 --ip-range 10.80.0.0/25 rr
network create --subnet 10.79.0.0/24 --aux-address a=10.80.0.1 rr
network create --subnet 10.79.0.0/24 --gateway 10.79.0.1 --gateway 10.79.0.2 rr
network create --gateway 10.79.0.1 rr
network create --subnet 10.79.0.0/24 --aux-address one=10.79.0.9 --aux-address two=10.79.0.10 --ip-range 10.79.0.8/29 --attachable --label a=b --opt com.docker.network.driver.mtu=1400 full
network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{json .AuxAddress}}{{end}} {{json .Options}} {{json .Labels}} {{.Attachable}} {{.Internal}} {{.Scope}} {{.Ingress}} {{.ConfigOnly}} {{json .ConfigFrom}}' full
network inspect --verbose -f '{{.Name}}' full
run --rm --network full busybox sh -c "ip addr show eth0 | grep -o 'inet [0-9./]*'; ip link show eth0 | grep -o 'mtu [0-9]*'; ip route | grep -o 'default via [0-9.]*'"
run --rm --network full --ip 10.79.0.9 busybox true
run --rm --network full --ip nope busybox true
run --rm --network full --ip6 fd00::5 busybox true
run --rm --network full --mac-address nope busybox true
run --rm --network full --mac-address 02:42:00:00:00:05 busybox cat /sys/class/net/eth0/address
run --rm --ip 172.17.0.9 busybox true
run --rm --network-alias al busybox true
run --rm --network nosuch busybox true
network ls --filter name=full --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}} {{.Labels}}'
network ls --filter label=a=b --format '{{.Name}}'
network ls --filter label=nope --format '{{.Name}}'
network ls --filter dangling=nope
network ls --filter driver=macvlan --format '{{.Name}}'
network rm full nosuch2
network create --ipv6 --subnet fd00:79::/64 --subnet 10.79.0.0/24 six
run --rm --network six busybox sh -c "ip addr show eth0 | grep -o 'inet6 fd[0-9a-f:/]*'; ip -6 route | grep -o 'default via [0-9a-f:]*'"
run --rm --network six --ip6 fd00:79::77 busybox sh -c "ip addr show eth0 | grep -o 'inet6 fd[0-9a-f:/]*'"
run --rm --network six --ip6 fd00:80::77 busybox true
network rm six
""",
    "networks: configurations": r"""
network create --config-only --subnet 10.81.0.0/24 --gateway 10.81.0.7 --label x=y -o com.docker.network.driver.mtu=1300 conf
network create --config-only conf
network create --config-only --internal c2
network create --config-only --config-from conf c2
network create --config-from nosuch c2
network create --config-from conf --subnet 10.82.0.0/24 c2
network create --config-from conf --label a=b c2
network create --config-from conf of
network inspect -f '{{.Driver}} {{.ConfigOnly}} {{json .ConfigFrom}} {{json .IPAM.Config}} {{json .Options}} {{json .Labels}}' of
network inspect -f '{{.Driver}} {{.Scope}} {{.ConfigOnly}} {{json .ConfigFrom}} {{json .IPAM.Config}} {{json .Options}} {{json .Labels}}' conf
network create --config-from conf of2
run --rm --network of busybox sh -c "ip route | grep -o 'default via [0-9.]*'; ip link show eth0 | grep -o 'mtu [0-9]*'"
run --rm --network conf busybox true
network rm conf
network rm of
network rm conf
""",
    "networks: places of containers": r"""
network create --subnet 10.83.0.0/24 pa
network create --subnet 10.84.0.0/29 pb
run -d --name pp --network pa --ip 10.83.0.5 --mac-address 02:42:00:00:00:11 --network-alias one busybox sleep 1000
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}} {{$v.IPPrefixLen}} {{$v.Gateway}} {{json $v.IPAMConfig}} {{json $v.Links}}{{end}}' pp
network connect --ip 10.84.0.4 --alias two --alias three --driver-opt a=b pb pp
inspect -f '{{with index .NetworkSettings.Networks "pb"}}{{.IPAddress}} {{json .IPAMConfig}} {{json .DriverOpts}}{{end}}' pp
network connect --ip 10.84.0.4 pb pp
network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' pb
run --rm --network pb --ip 10.84.0.4 busybox true
run --rm --network pb --ip 10.84.0.1 busybox true
run --rm --network pb --ip 10.85.0.4 busybox true
network connect --ip nope pb pp
network connect --link-local-ip 169.254.7.7 bridge pp
network disconnect pb pp
network disconnect -f pb nosuch
network disconnect pb pp
run --rm --network pb --ip 10.84.0.4 busybox true
run -d --name p2 --network pb busybox sleep 1000
run -d --name p3 --network pb busybox sleep 1000
run -d --name p4 --network pb busybox sleep 1000
run -d --name p5 --network pb busybox sleep 1000
run -d --name p6 --network pb busybox sleep 1000
run -d --name p7 --network pb busybox sleep 1000
rm -f p7
network prune -f --filter label=none
network rm pb
rm -f pp p2 p3 p4 p5 p6
network prune -f
""",
    "connect and disconnect": r"""
network create --internal cn
network create cm
run -d --name ca --network cm busybox sleep 1000
network connect cn ca
network connect cn ca
network connect nosuch ca
network connect cn nosuch
network connect host ca
network connect none ca
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}' ca
network inspect -f '{{range .Containers}}{{.Name}} {{end}}' cn
network rm cn
network disconnect cn ca
network disconnect cn ca
network disconnect cn cs
network disconnect nosuch ca
network disconnect cn nosuch
network inspect -f '{{range .Containers}}{{.Name}} {{end}}' cn
create --name cs busybox true
network connect --alias al cm cs
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}' cs
network disconnect bridge cs
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}' cs
run -d --name ch --network host busybox sleep 1000
network connect cm ch
network disconnect host ch
exec ca cat /etc/resolv.conf
stop -t 0 ca
network disconnect cn ca
run -d --name cc --network container:ca busybox sleep 1000
rm -f ca cs ch cc
network rm cn cm
""",
    "who reaches whom": r"""
network create rn
network create --internal ri
network create -o com.docker.network.bridge.enable_icc=false rq
run -d --name r1 --network rn --network-alias al -p 127.0.0.1:8085:80 -p 8086:81/udp busybox sh -c 'mkdir /w; echo r1 >/w/index.html; exec httpd -f -p 80 -h /w'
run -d --name r2 --network rn -p 8087:80 busybox sh -c 'mkdir /w; echo r2 >/w/index.html; exec httpd -f -p 80 -h /w'
run -d --name r3 --network ri busybox sh -c 'mkdir /w; echo r3 >/w/index.html; exec httpd -f -p 80 -h /w'
run -d --name r4 --network rq -p 8088:80 busybox sh -c 'mkdir /w; echo r4 >/w/index.html; exec httpd -f -p 80 -h /w'
run -d --name r5 --network bridge -p 8089:80 busybox sh -c 'mkdir /w; echo r5 >/w/index.html; exec httpd -f -p 80 -h /w'
network connect ri r2
exec r2 wget -q -T 5 -O - http://r1/
exec r1 wget -q -T 5 -O - http://al/
exec r2 wget -q -T 5 -O - http://r3/
exec r3 wget -q -T 5 -O - http://r2/
exec r1 wget -q -T 1 -O - http://r3/
exec r5 wget -q -T 1 -O - http://r1/
run --rm --network rn busybox sh -c 'g=$(ip route | sed -n "s/default via \([^ ]*\).*/\1/p"); for p in 8085 8087 8088 8089; do wget -q -T 1 -O - http://$g:$p/ || echo no $p; done' 2>/dev/null
run --rm --network bridge busybox sh -c 'g=$(ip route | sed -n "s/default via \([^ ]*\).*/\1/p"); for p in 8085 8087 8088 8089; do wget -q -T 1 -O - http://$g:$p/ || echo no $p; done' 2>/dev/null
run --rm --network host busybox sh -c 'for p in 8085 8087 8088 8089; do wget -q -T 2 -O - http://127.0.0.1:$p/ || echo no $p; done' 2>/dev/null
exec r5 sh -c 'g=$(ip route | sed -n "s/default via \([^ ]*\).*/\1/p"); wget -q -T 5 -O - http://$g:8089/'
run --rm --network rq busybox sh -c 'ping -c 1 -W 1 r4 >/dev/null && echo reached || echo apart'
run --rm --network ri busybox sh -c 'ip route | grep -c default'
run --rm --network ri busybox sh -c 'ping -c 1 -W 1 192.0.2.1 2>&1 | tail -1'
inspect -f '{{json .NetworkSettings.Ports}}' r1
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{json $v.Aliases}} {{json $v.IPAMConfig}} {{$v.IPPrefixLen}};{{end}}' r1
network inspect -f '{{len .Containers}} {{.Internal}} {{.EnableIPv6}} {{.Driver}} {{.Options}}' rq
network rm rn
rm -f r1 r2 r3 r4 r5
network rm rn ri rq
""",
    "networks with options": r"""
network create -o com.docker.network.bridge.name=mybr0 -o com.docker.network.driver.mtu=1400 nb
run --rm --network nb busybox cat /sys/class/net/eth0/mtu
network create -o com.docker.network.bridge.name=mybr0 nb2
network create -o com.docker.network.driver.mtu=abc nb2
network create -o com.docker.network.bridge.enable_icc=maybe nb2
network create -o com.docker.network.container_iface_prefix=lan nb3
run --rm --network nb3 busybox ls /sys/class/net
network create --ipv6 --subnet 2001:db8:1::/64 nb6
run --rm --network nb6 busybox sh -c 'ip -6 addr show eth0 | grep -o "2001:db8[^ ]*"; ip -6 route | grep -c default; cat /proc/sys/net/ipv6/conf/eth0/accept_ra'
network create --subnet 10.76.0.0/29 ns
run -d --name s1 --network ns --ip 10.76.0.5 --mac-address 02:42:aa:bb:cc:dd busybox sleep 1000
exec s1 sh -c 'ip addr show eth0 | grep -oE "(inet|ether) [0-9a-f./:]*"'
run --rm --network ns --ip 10.76.0.5 busybox true
inspect -f '{{.NetworkSettings.Networks.ns.IPAddress}} {{.NetworkSettings.Networks.ns.MacAddress}} {{.NetworkSettings.Networks.ns.Gateway}}' s1
rm -f s1
network rm nb nb3 nb6 ns
""",
    "ports": r"""
run -d --name pp --network bridge -p 127.0.0.1:8080:80 -p 127.0.0.1:5300:53/udp --expose 99 busybox sleep 1000
port pp
port pp 80
port pp 53/udp
port pp 81
ps --filter name=pp --format '{{.Ports}}'
ps --filter publish=8080 --format '{{.Names}}'
ps --filter publish=8081 --format '{{.Names}}'
ps --filter publish=5300/udp --format '{{.Names}}'
inspect -f '{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}' pp
run --rm --name px -p 127.0.0.1:8080:80 busybox true
run -d --name pr -p 127.0.0.1:8080-8081:80 busybox sleep 1000
port pr
rm -f pr
stop -t 0 pp
port pp
ps -a --filter name=pp --format '{{.Ports}}.'
inspect -f '{{json .NetworkSettings.Ports}}' pp
start pp
port pp 80/tcp
rm -f pp
run --rm -p 99999:80 busybox true
run --rm -p 1:2:3:4 busybox true
run --rm --network none -p 8080:80 busybox true
run --rm --network host -p 8080:80 busybox true
create --name pc -p 8080:80/icmp busybox true
""",
}

UNORDERED = {
    "network prune -f": "dockerd walks a Go map, whose order changes from run to run",
    "diff ff": "dockerd walks a Go map",
    "run --rm --network none -e 'ÄÖ=ü' -e 'A B=c d' -e X==y busybox env": "the client walks a Go map",
}
"""Lines whose answer is a set: their lines are compared sorted."""

_NEWER = "dockerd says it so since 23.0 to 28.0, or nearly"
_NAMES = "the message names what is wrong, which, and what would help"
_RANGE = "the message ends with the number that is no id"
_OPTION = "an option that nobody reads is told; dockerd takes any"
_SUBNETS = "a network may have several subnets of a family"
_STATUS = "127 for a program that is not there, as of `docker run`; dockerd does so since 23.0"

DIFFERENT: dict[str, str] = {
    "update --memory-reservation 500m rr": "a reservation above the limit is refused by update as it is by create",
    "run --rm --network none --cpu-rt-runtime 5000 busybox true": "the runtime's words; ours name the setting that helps",
    "update --blkio-weight 5 rr": "a weight out of range is refused, also where the kernel has no weights",
    "run --rm --network none --blkio-weight 5 busybox true": "a weight out of range is refused, also where the kernel has none",
    "run --rm --network none -v v4:/etc/passwd busybox true": "the words that dockerd has for an image's VOLUME fit here too",
    "run --rm --network none -u -1 busybox id": _RANGE,
    "run --rm --network none -u 99999999999 busybox id": _RANGE,
    "run --rm --network none -u 4294967295 busybox id": _RANGE,
    "run --rm --network none -v {here}/bind/file:/etc busybox true": _NAMES,
    "run --rm --network none -v {here}/bind:/etc/passwd busybox true": _NAMES,
    "run --rm --network none --hostname -bad- busybox hostname": "a name that RFC 1123 forbids is refused; dockerd takes any bytes",
    "run --rm --network none --sysctl net.ipv4.nope=x busybox true": _NAMES,
    "run --rm --network host --sysctl net.ipv4.ip_forward=1 busybox true": _NEWER,
    "run --rm --dns 1.2.3.4 --dns-search a.b --dns-option ndots:3 busybox cat /etc/resolv.conf": "the order of the lines, which means nothing, is that of dockerd since 26.0",
    "run --rm --network none --runtime nope busybox true": _NEWER,
    "inspect --type image nosuch": _NEWER,
    "rename cc bad/name": "the name is shown as it was given; dockerd adds a slash",
    "rm cc": _NEWER,
    "kill -s 99 cc": "what is no signal is said so before anything is tried",
    "exec xx nosuch": _STATUS,
    "exec xx /nosuch/prog": _STATUS,
    "exec -w /nosuch xx pwd": _STATUS,
    "exec -u nosuch xx id": "all failures of exec begin alike",
    "exec --detach-keys nope xx true": _NEWER,
    "ps -a --filter exited=nope": _NAMES,
    "ps -a --filter since=nosuch": "the same words as everywhere else",
    "ps -a --filter health=nope": _NEWER,
    "import - imp:3 <<< notatar": _NAMES,
    "load <<< notatar": "an error before the first byte of progress has a status; the words are ours",
    "load -i {here}/rootfs.tar": _NAMES,
    "load -i {here}/empty.tar": _NAMES,
    "save nosuch": "the tag that was looked for is shown",
    "save -o {here}/saved.tar busybox nosuch": "the tag that was looked for is shown",
    "image inspect nosuch": _NEWER,
    "network create -d macvlan -o parent=nocard m1": _NAMES,
    "network create -d macvlan -o parent=nocard.50 m1": "the words of dockerd since 23.0, which has a verb too many before",
    "network create -d macvlan -o macvlan_mode=nope -o parent=lo m1": _NAMES,
    "network create --ipam-opt a=b io": _OPTION,
    "network rm io": _OPTION,
    "network create --driver none nn": "the driver has that name here, beside Docker's null",
    "network create --subnet 10.71.0.0/24 --subnet 10.72.0.0/24 two": _SUBNETS,
    "network rm two": _SUBNETS,
    "run --rm --network full --ip 10.79.0.9 busybox true": _NAMES,
    "run --rm --network full --ip nope busybox true": _NEWER,
    "run --rm --network full --ip6 fd00::5 busybox true": _NAMES,
    "network ls --filter dangling=nope": "the same words as for other filters",
    "run --rm --network six --ip6 fd00:80::77 busybox true": _NEWER,
    "network create --config-from conf of2": _NAMES,
    "run --rm --network pb --ip 10.84.0.1 busybox true": _NAMES,
    "run --rm --network pb --ip 10.85.0.4 busybox true": _NEWER,
    "run -d --name p7 --network pb busybox sleep 1000": _NAMES,
    "network create --subnet nope n2": _NAMES,
    "network create --subnet 10.77.0.0/25 n3": _NAMES,
    "network create ''": _NAMES,
    "network create -o com.docker.network.bridge.name=mybr0 nb2": _NAMES,
    "network create -o com.docker.network.driver.mtu=abc nb2": _NAMES,
    "network create -o com.docker.network.bridge.enable_icc=maybe nb2": _NAMES,
    "run --rm --network ri busybox sh -c 'ip route | grep -c default'": _NEWER,
    "run --rm --network ri busybox sh -c 'ping -c 1 -W 1 192.0.2.1 2>&1 | tail -1'": _NEWER,
    "inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{json $v.Aliases}} {{json $v.IPAMConfig}} {{$v.IPPrefixLen}};{{end}}' r1": _NEWER,
    """run --rm --network nb6 busybox sh -c 'ip -6 addr show eth0 | grep -o "2001:db8[^ ]*"; ip -6 route | grep -c default; cat /proc/sys/net/ipv6/conf/eth0/accept_ra'""": "no neighbour may announce itself as a router (CVE-2020-13401)",
    "run --rm --network n2 --ip 10.99.0.55 busybox true": _NEWER,
    "run --rm --network n2 --ip 10.77.0.1 busybox true": _NAMES,
}
"""Lines whose answers differ, and why they are meant to."""

FIELDS: dict[str, tuple[list[str], str, dict[str, str]]] = {
    "a container": (
        [
            "run -d --name doc --network bridge -e A=1 -w /tmp -v {here}/bind:/b:ro --tmpfs /t --label a=b --memory 64m --cpus 0.5 --cap-add sys_time --ulimit nofile=100:200 --stop-signal USR1 busybox sleep 1000"
        ],
        "inspect doc",
        {
            "Driver|GraphDriver[.].*": "storage drivers are other ones and show no paths of the host",
            "HostConfig[.]CgroupnsMode": "a cgroup namespace of its own also where the hierarchy is v1",
            "HostConfig[.]KernelMemory(TCP)?": "gone from the API with 1.42",
            "HostConfig[.]MaskedPaths": "more is hidden: what dockerd hides since 27.1 and 28.2",
            "HostConfig[.]Runtime": "the isolation backend's name",
            "LogDelivery": "how far the log driver is behind what was written",
            "NetworkSettings[.]Networks[.]bridge[.](DNSNames|GwPriority)": "new in API 1.44 and 1.48",
            "NetworkSettings[.]SandboxKey": "the namespace is the supervisor's and has no mount point",
            "State[.]Pid": "a process id",
        },
    ),
    "a stopped container": (
        [
            "create --name gone --network none --restart on-failure:3 --dns 1.2.3.4 --add-host a:1.2.3.4 --security-opt no-new-privileges -t -i busybox sh -c 'exit 3'"
        ],
        "inspect gone",
        {
            "Driver|GraphDriver[.].*": "storage drivers are other ones and show no paths of the host",
            "HostConfig[.]CgroupnsMode": "a cgroup namespace of its own also where the hierarchy is v1",
            "HostConfig[.]KernelMemory(TCP)?": "gone from the API with 1.42",
            "HostConfig[.]MaskedPaths": "more is hidden: what dockerd hides since 27.1 and 28.2",
            "HostConfig[.]Runtime": "the isolation backend's name",
            "(Hostname|Hosts|ResolvConf)Path": "known from the beginning: the place does not depend on a start",
            "NetworkSettings[.]Networks[.]none[.](DNSNames|GwPriority|NetworkID)": "the network is known before the start",
        },
    ),
    "an image": (
        [],
        "image inspect busybox",
        {
            "Container": "gone from the API with 1.45",
            "ContainerConfig.*": "gone from the API with 1.45; the image's own, for docker-compose 1.29",
            "GraphDriver[.].*": "storage drivers are other ones and show no paths of the host",
            "(Virtual)?Size": "bytes of the layers' files; dockerd counts some of the archive's own",
        },
    ),
    "a network": (
        ["network create --subnet 10.77.0.0/24 --gateway 10.77.0.1 --label a=b --internal doc"],
        "network inspect doc",
        {
            "EnableIPv4|Report": "new in API 1.48; what the driver reports",
            "IPAM[.]Options": "none are none",
        },
    ),
}
"""By kind: what makes it, what shows it, and patterns of the fields that differ with the reason."""
