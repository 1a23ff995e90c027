#!/usr/bin/env python3
"""pyd beside an installed dockerd, in the same minute on the same machine: medians, and by how much one is better.

  bench.py [-n 15] [--many 20] [--only run-bridge,exec] [--engine pydd,dockerd] [--archive FILE] [--json FILE]

Samples are taken in turn, one of each engine, so that a busy moment of the machine meets both. An engine that is not
installed is left out and said so; `--engine dockerd,dockerd` measures the noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "bench")]

from engines import ENGINES, Engine, Missing  # noqa: E402 - needs the path set above
from scenarios import FIGURES, Sample, Scenario, close_quietly, scenarios  # noqa: E402

Results = dict[str, dict[str, list[float]]]


def measure(
    engines: list[Engine], wanted: list[str], number: int, available: dict[str, tuple[Scenario, float]]
) -> tuple[Results, list[str]]:
    """All samples by figure and engine, and what failed."""
    results: Results = {}
    failures: list[str] = []
    for name, (scenario, share) in available.items():
        if wanted and name not in wanted:
            continue
        begun = time.monotonic()
        open_: dict[str, Sample] = {}
        contexts = []
        for engine in engines:
            context = scenario(engine)
            try:
                open_[engine.name] = context.__enter__()
                contexts.append(context)
                open_[engine.name]()  # the first one warms up and does not count
            except Missing as why:
                sys.stderr.write(f"bench: {name} is left out: {why}\n")
            except Exception as error:
                open_.pop(engine.name, None)
                failures.append(f"{name} on {engine.name}: {type(error).__name__}: {error}")
        for _ in range(max(2, round(number * share))):
            for running in list(open_):
                try:
                    for figure, value in open_[running]().items():
                        results.setdefault(figure, {}).setdefault(running, []).append(value)
                except Exception as error:
                    del open_[running]
                    failures.append(f"{name} on {running}: {type(error).__name__}: {error}")
        for context in contexts:
            close_quietly(context)
        sys.stderr.write(f"  {name}: {time.monotonic() - begun:.1f} s\n")
    return results, failures


def table(results: Results, names: list[str]) -> str:
    """Medians, and how many times better the first engine is than the second (above 1: better)."""
    rows = [["", *names, "unit", *(["better by"] if len(names) > 1 else [])]]
    for figure, (unit, less) in FIGURES.items():
        if figure not in results:
            continue
        medians = [statistics.median(results[figure][name]) if name in results[figure] else None for name in names]
        row = [figure, *("-" if value is None else f"{value:.4g}" for value in medians), unit]
        if len(names) > 1:
            first, second = medians[:2]
            ratio = None if not first or not second else second / first if less else first / second
            row.append("-" if ratio is None else f"{ratio:.2f}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def main() -> int:
    """Start the engines, measure, print, and stop them; 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=15, help="samples of the quick scenarios; slow ones take a share")
    parser.add_argument("--many", type=int, default=20, help="containers at once")
    parser.add_argument("--only", default="", help=f"comma list of {', '.join(scenarios(1))}")
    parser.add_argument("--engine", default="pydd,dockerd", help="comma list of pydd, dockerd; one may come twice")
    parser.add_argument("--archive", type=Path, help="an image as docker save writes it, for the scenario load-archive")
    parser.add_argument("--json", type=Path, help="write all samples and the machine's description to this file")
    given = parser.parse_args()
    wanted = [name for name in given.only.split(",") if name]
    available = scenarios(given.many, given.archive)
    if unknown := set(wanted) - available.keys():
        parser.error(f"unknown scenario: {', '.join(sorted(unknown))}")
    if unknown := set(given.engine.split(",")) - ENGINES.keys():
        parser.error(f"unknown engine: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        raise SystemExit("bench: engines need root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    engines: list[Engine] = []
    begun = time.monotonic()
    try:
        for kind in given.engine.split(","):
            twin = sum(engine.kind == kind for engine in engines)
            try:
                engines.append(ENGINES[kind](f"{kind}#{twin + 1}" if twin else kind).start())
            except Missing as why:
                sys.stderr.write(f"bench: {kind} is left out: {why}\n")
        if not engines:
            return 1
        results, failures = measure(engines, wanted, given.n, available)
        versions = {engine.name: engine.api.json("GET", "/version")["Version"] for engine in engines}
    finally:
        for engine in engines:
            engine.stop()
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    sys.stdout.write(f"{said}; {os.cpu_count()} cpus, kernel {platform.release()}, medians\n\n")
    sys.stdout.write(table(results, list(versions)) + "\n")
    for failure in failures:
        sys.stdout.write(f"FAILED {failure}\n")
    sys.stderr.write(f"({time.monotonic() - begun:.0f} s)\n")
    if given.json:
        facts = {
            "versions": versions,
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "machine": platform.machine(),
        }
        given.json.write_text(json.dumps({**facts, "samples": results, "failures": failures}, indent=1) + "\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
