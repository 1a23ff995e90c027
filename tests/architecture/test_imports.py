"""Everything points at the contracts; nothing points at a driver. import-linter holds the rules, in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

import import_rules
from pyd_contracts.events import GROUP as PLUGINS
from pyd_contracts.frontend import GROUP as FRONTEND
from pyd_contracts.ipam import GROUP as IPAM
from pyd_contracts.isolation import GROUP as ISOLATION
from pyd_contracts.log import GROUP as LOG
from pyd_contracts.network import GROUP as NETWORK
from pyd_contracts.storage import GROUP as STORAGE
from pyd_contracts.volume import GROUP as VOLUME
from source_tree import ROOT, Member, members

GROUPS = {STORAGE, NETWORK, IPAM, ISOLATION, VOLUME, LOG, FRONTEND, PLUGINS}
OURS = {member.name for member in members()}
PLUGGED = [member for member in members() if member.document["project"].get("entry-points", {}).keys() & GROUPS]


def test_import_rules_hold() -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "scripts/import_rules.py"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_package_is_under_the_import_rules() -> None:
    rules = tomllib.loads(import_rules.rules())["tool"]["importlinter"]
    assert set(rules["root_packages"]) == {member.package.name for member in members() if member.package}
    drivers = {member.package.name for member in PLUGGED if member.package}
    assert set(import_rules.packages(*import_rules.DRIVERS)) == drivers


@pytest.mark.parametrize("member", PLUGGED, ids=lambda member: member.name)
def test_drivers_and_plugins_declare_contracts_and_at_most_what_drivers_share(member: Member) -> None:
    assert "pyd-contracts" in member.requirements
    assert member.requirements & OURS <= {"pyd-contracts", "pyd-netlink", "pyd-shim", "pyd-snapshots"}


@pytest.mark.parametrize("member", PLUGGED, ids=lambda member: member.name)
def test_entry_points_lead_to_a_callable_named_create(member: Member) -> None:
    entries = member.document["project"]["entry-points"]
    for group in entries.keys() & GROUPS:
        for target in entries[group].values():
            module, _, attribute = target.partition(":")
            assert attribute == "create", target
            assert member.package is not None
            assert (member.package.parent / (module.replace(".", "/") + ".py")).is_file(), target


def test_contracts_depend_on_pluggy_alone() -> None:
    [contracts] = [member for member in members() if member.name == "pyd-contracts"]
    assert contracts.requirements == {"pluggy"}


def test_the_command_line_depends_on_none_of_us() -> None:
    [cli] = [member for member in members() if member.name == "pyd-cli"]
    assert not cli.requirements & OURS
