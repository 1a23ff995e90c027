"""Configuration: precedence and origins, faults in words that help, the example file."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest

import pyd_daemon.config
from pyd_daemon.config import ConfigError, Configuration, load, parse_host
from pyd_daemon.config.example import example
from pyd_daemon.config.keys import KEYS


def read(tmp_path: Path, text: str, **others: object) -> Configuration:
    file = tmp_path / "pyd.toml"
    file.write_text(text)
    return load(file, environ={}, **others)  # type: ignore[arg-type]


def faults(tmp_path: Path, text: str, **others: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, **others)
    return [fault.replace(str(tmp_path), "T") for fault in caught.value.faults]


def test_defaults_are_complete() -> None:
    configuration = load(environ={"PYD_CONFIG": "/dev/null"})
    assert configuration.data_root == Path("/var/lib/pyd")
    assert configuration.run_root == Path("/run/pyd")
    assert [host.path for host in configuration.hosts] == [Path("/run/pyd/pyd.sock")]
    assert configuration.default_storage == "overlay"
    assert configuration.default_isolation == "namespaces"
    assert configuration.selection().network.needed == ("bridge", "host", "none")
    assert configuration.address_pools[0].base == ipaddress.ip_network("172.17.0.0/16")
    assert {each["Origin"] for each in configuration.effective()} == {"default"}


def test_later_sources_win_and_every_value_knows_where_it_is_from(tmp_path: Path) -> None:
    file = tmp_path / "pyd.toml"
    file.write_text('data-root = "/a"\nrun-root = "/b"\nlog-level = "error"\n[storage]\ndefault = "vfs"\n')
    environ = {"PYD_CONFIG": str(file), "PYD_RUN_ROOT": "/c", "PYD_LOG_LEVEL": "warning", "PYD_HOST": "unix:///x,fd://"}
    configuration = load(flags={"log-level": "debug"}, environ=environ)
    shown = {each["Key"]: (each["Value"], each["Origin"]) for each in configuration.effective()}
    assert shown["data-root"] == ('"/a"', f"file {file}")
    assert shown["run-root"] == ('"/c"', "env PYD_RUN_ROOT")
    assert shown["log-level"] == ('"debug"', "flag --log-level")
    assert shown["hosts"] == ('["unix:///x", "fd://"]', "env PYD_HOST")
    assert shown["group"] == ('""', "default")
    assert configuration.selection().setting("storage", "vfs") == f'[storage] default = "vfs" in {file}'


def test_tables_of_drivers_are_kept_for_the_drivers(tmp_path: Path) -> None:
    configuration = read(tmp_path, '[storage.overlay]\noptions = ["metacopy=off"]\n[plugins.trace]\nfile = "/x"\n')
    assert configuration.selection().storage.tables == {"overlay": {"options": ["metacopy=off"]}}
    assert configuration.selection().table("plugins", "trace") == f"[plugins.trace] in {tmp_path}/pyd.toml"
    assert {"Key": "storage.overlay.options", "Value": '["metacopy=off"]', "Origin": f"file {tmp_path}/pyd.toml"} in (
        configuration.effective()
    )


def test_unknown_keys_name_the_nearest(tmp_path: Path) -> None:
    text = 'data-rot = "/a"\n[storage]\ndefalt = "vfs"\n[imges]\n[images]\nzzz = 1\n'
    assert faults(tmp_path, text) == [
        'T/pyd.toml: unknown key "data-rot"; did you mean "data-root"?',
        'T/pyd.toml: unknown key in [storage]: "defalt"; did you mean "default"?',
        'T/pyd.toml: unknown key "imges"; did you mean "images"?',
        'T/pyd.toml: unknown key in [images]: "zzz"; known: max-concurrent-downloads, unpack-on-pull',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hosts = 3", "hosts in T/pyd.toml must be a list of addresses to listen on, not 3"),
        ('data-root = "var"', "data-root in T/pyd.toml must be an absolute path, not 'var': it must begin with /"),
        ("shutdown-timeout = true", "shutdown-timeout in T/pyd.toml must be a whole number from 1 to 3600, not True"),
        ('log-level = "loud"', 'must be one of "debug", "info", "warning", "error", not \'loud\''),
        ('[images]\nunpack-on-pull = "yes"', "[images] unpack-on-pull in T/pyd.toml must be true or false, not 'yes'"),
        ('[network]\ndrivers = ["a", "a"]', "a name is there twice"),
        ('labels = ["a"]', "'a' has no key and value"),
        ('[registry]\nmirrors = ["m.example"]', "'m.example' does not begin with https:// or http://"),
        (
            'network.default-address-pools = [{base = "10.0.0.0/8", size = 4}]',
            "size of 10.0.0.0/8 must be from 8 to 30",
        ),
        ('network.default-address-pools = [{base = "10.0.0.1/8", size = 24}]', "10.0.0.1/8 has host bits set"),
        ("network.default-address-pools = [{base = 1}]", "a pool has the keys base and size, not base"),
        ("storage = 1", "T/pyd.toml: [storage] must be a table, not 1"),
        ('hosts = ["npipe:////./x"]', "'npipe' is not served; known forms: unix:///path"),
        ('hosts = ["unix://x"]', "the path must be absolute"),
        (f'hosts = ["unix:///{"x" * 120}"]', "at most 107 bytes"),
        ('hosts = ["tcp://127.0.0.1"]', "a port from 1 to 65535 is missing"),
        ('hosts = ["tcp://example.com:2375"]', "'example.com' is not an IP address"),
        ("hosts = []", "nobody could reach the daemon"),
        ("data-root = \nhosts = []", "(at line 1, column 13)"),
        ('hosts = ["tcp://127.0.0.1:2375"]', "if that is meant, add --insecure-tcp"),
    ],
)
def test_wrong_values_are_named_with_file_and_expectation(tmp_path: Path, text: str, expected: str) -> None:
    (fault,) = faults(tmp_path, text)
    assert expected in fault
    assert "T/pyd.toml" in fault


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "hosts = 1\ngroup = 2\nlabels = 3\nnope = 4")) == 4


def test_tcp_is_served_on_loopback_when_it_is_meant_and_never_elsewhere(tmp_path: Path) -> None:
    configuration = read(tmp_path, 'hosts = ["tcp://[::1]:2375"]', insecure_tcp=True)
    assert (configuration.hosts[0].address, configuration.hosts[0].port) == ("::1", 2375)
    assert {"Key": "insecure-tcp", "Value": "true", "Origin": "flag --insecure-tcp"} in configuration.effective()
    (fault,) = faults(tmp_path, 'hosts = ["tcp://0.0.0.0:2375"]', insecure_tcp=True)
    assert "only loopback addresses are served" in fault
    assert "ssh" in fault


def test_a_named_file_must_be_there_and_the_default_one_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"the configuration file .*/no\.toml is not there"):
        load(tmp_path / "no.toml", environ={})
    with pytest.raises(ConfigError, match="is not there"):
        load(environ={"PYD_CONFIG": str(tmp_path / "no.toml")})
    monkeypatch.setattr("pyd_daemon.config.loading.DEFAULT_FILE", tmp_path / "default.toml")
    assert load(environ={}).file is None


@pytest.mark.parametrize(("content", "expected"), [(b"\xff", "byte 0 is not UTF-8"), (None, "is a directory")])
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, expected: str) -> None:
    file = tmp_path / "pyd.toml"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        load(file, environ={})


def test_the_example_file_is_the_table_of_keys_and_equals_the_defaults(tmp_path: Path) -> None:
    shipped = (Path(pyd_daemon.config.__file__).parent / "pyd.toml").read_text()
    assert shipped == example()
    uncommented = re.sub(r"(?m)^#(?! )|^#(?=    \{)", "", shipped)
    file = tmp_path / "pyd.toml"
    file.write_text(uncommented)
    configuration, defaults = load(file, environ={}), load(Path("/dev/null"), environ={})
    assert {key: value.read for key, value in configuration.values.items()} == {
        key: value.read for key, value in defaults.values.items()
    }
    assert {value.origin.source for value in configuration.values.values()} == {"file"}
    assert load_commented(tmp_path, shipped) == {"default"}


def load_commented(tmp_path: Path, text: str) -> set[str]:
    return {value.origin.source for value in read(tmp_path, text).values.values()}


def test_every_key_is_explained() -> None:
    assert all(key.help.endswith((".", ").")) for key in KEYS.values())


def test_hosts_are_read() -> None:
    assert parse_host("fd://api").name == "api"
    assert parse_host("tcp://localhost:1").loopback
    assert not parse_host("tcp://192.0.2.1:1").loopback
