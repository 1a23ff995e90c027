"""``python -m pyd_conformance check DISTRIBUTION...``: the static half of the kit."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys

from pyd_conformance.checks import RULES, check

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Print findings; 0 when there are none, 1 when there are, 2 when a distribution is not installed."""
    parser = argparse.ArgumentParser(prog="python -m pyd_conformance")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    checking = commands.add_parser("check", help="hold installed drivers against the rules that need no run")
    checking.add_argument("distribution", nargs="+", help="as pip knows it: pyd-storage-overlay")
    status = 0
    for name in parser.parse_args(arguments).distribution:
        try:
            findings = check(name)
        except importlib.metadata.PackageNotFoundError:
            print(f"{name}: not installed", file=sys.stderr)
            status = 2
            continue
        for finding in findings:
            print(f"{name}: {finding.text}\n    rule: {finding.rule}")
        if findings:
            status = max(status, 1)
        else:
            print(f"{name}: {len(RULES)} rules kept")
    return status


if __name__ == "__main__":
    sys.exit(main())
