"""The flags of `run` and `create` as bodies of requests.

`create_bodies.json` holds what docker's command line 28.2.2 sent for the same arguments (recorded with a socket that
answers, then rid of nulls, zeros and empty strings, which say nothing to a daemon).
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from pyd_cli.errors import CliError, UsageError
from pyd_cli.flags import parse
from pyd_cli.run_flags import RUN
from pyd_cli.run_options import create_body
from pyd_cli.run_values import read_env_file

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "create_bodies.json").read_text())
SPEAKING = {"Labels", "Volumes", "ExposedPorts", "PortBindings", "EndpointsConfig", "Tmpfs", "Annotations"}


def body(*argv: str) -> dict[str, Any]:
    options, args = parse(RUN, list(argv), interspersed=False)
    return create_body(options, args[0], args[1:])


def significant(value: Any, name: str = "") -> Any:
    """`value` without what says nothing."""
    if isinstance(value, dict):
        inner = {key: significant(item, key) for key, item in value.items()}
        if name in SPEAKING:
            return inner
        kept = {"Init", "Soft", "Hard", "MaskedPaths", "ReadonlyPaths", "MemorySwappiness"}
        return {
            key: item
            for key, item in inner.items()
            if key in kept or item not in (None, "", 0, False, [], {}, [0, 0], -1)
        }
    return [significant(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("arguments", RECORDED)
def test_the_body_is_what_docker_sends(arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A", raising=False)
    assert significant(body(*shlex.split(arguments))) == RECORDED[arguments]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--memory x i", 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        ("--memory 1q i", 'invalid argument "1q" for "-m, --memory" flag: invalid suffix: \'q\''),
        ("--cpus x i", 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
        ("--cpus 0.00000000001 i", 'invalid argument "0.00000000001" for "--cpus" flag: value is too precise'),
        ("-a foo i", 'invalid argument "foo" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'),
        ("--mount x i", 'invalid argument "x" for "--mount" flag: invalid field \'x\' must be a key=value pair'),
        ("--mount type=bind i", 'invalid argument "type=bind" for "--mount" flag: target is required'),
        ("--ulimit foo i", 'invalid argument "foo" for "--ulimit" flag: invalid ulimit argument: foo'),
        (
            "--rm=maybe i",
            'invalid argument "maybe" for "--rm" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (
            "--stop-timeout x i",
            'invalid argument "x" for "--stop-timeout" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        ("--add-host x i", 'invalid argument "x" for "--add-host" flag: bad format for add-host: "x"'),
        ("--foo i", "unknown flag: --foo"),
        ("-Z i", "unknown shorthand flag: 'Z' in -Z"),
        ("--name", "flag needs an argument: --name"),
        ("-te", "flag needs an argument: 'e' in -te"),
    ],
)
def test_flags_that_make_no_sense(arguments: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        body(*shlex.split(arguments))
    assert str(caught.value) == message
    assert caught.value.code == 125


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--rm --restart always i", "conflicting options: cannot specify both --restart and --rm"),
        ("-p abc:80 i", "invalid hostPort: abc"),
        ("-p 80:abc i", "invalid containerPort: abc"),
        ("-p 80/foo i", "invalid proto: foo"),
        ("-p 80-82:90-95 i", "invalid ranges specified for container and host Ports: 90-95 and 80-82"),
        ("--pid foo i", "--pid: invalid PID mode"),
        ("--no-healthcheck --health-cmd x i", "--no-healthcheck conflicts with --health-* options"),
        ("--restart on-failure:x i", "invalid restart policy format: maximum retry count must be an integer"),
        ("--env-file /nonexistent/file i", "open /nonexistent/file: no such file or directory"),
        ("--network a --network host i", "conflicting options: cannot attach both user-defined and"),
    ],
)
def test_flags_that_make_no_sense_together(arguments: str, message: str) -> None:
    with pytest.raises(CliError, match="^" + message.replace("*", r"\*")) as caught:
        body(*shlex.split(arguments))
    assert caught.value.code == 125


def test_nothing_after_the_image_is_a_flag_of_ours() -> None:
    made = body("-e", "A=--rm", "img", "--rm", "-it", "--", "x")
    assert made["Cmd"] == ["--rm", "-it", "--", "x"]
    assert made["Env"] == ["A=--rm"]
    assert "AutoRemove" not in made["HostConfig"]


def test_spellings_of_switches() -> None:
    made = body("-it=false", "--privileged=true", "--read-only=0", "img")
    assert made["OpenStdin"] is True
    assert "Tty" not in made
    assert made["HostConfig"]["Privileged"] is True
    assert "ReadonlyRootfs" not in made["HostConfig"]


def test_environment_comes_from_files_then_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWN", "here")
    monkeypatch.delenv("UNKNOWN", raising=False)
    file = tmp_path / "env"
    file.write_text("\ufeffX=1\n# comment\n\nKNOWN\n UNKNOWN\nY=a b=c\r\n", encoding="utf-8")
    assert read_env_file(str(file)) == ["X=1", "KNOWN=here", "Y=a b=c"]
    made = body("-e", "KNOWN", "-e", "UNKNOWN", "--env-file", str(file), "-e", "Z=", "img")
    assert made["Env"] == ["X=1", "KNOWN=here", "Y=a b=c", "KNOWN=here", "UNKNOWN", "Z="]
    file.write_text("A B=1\n")
    with pytest.raises(CliError, match="variable 'A B' contains whitespaces"):
        read_env_file(str(file))


def test_relative_sources_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = body("-v", "./d:/x:ro", "--mount", "type=bind,src=.,dst=/y", "img")
    assert made["HostConfig"]["Binds"] == [f"{tmp_path}/d:/x:ro"]
    assert made["HostConfig"]["Mounts"][0]["Source"] == str(tmp_path)


def test_a_seccomp_profile_is_sent_as_its_content(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    made = body("--security-opt", f"seccomp={profile}", "img")
    assert made["HostConfig"]["SecurityOpt"] == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']
