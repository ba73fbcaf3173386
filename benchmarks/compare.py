"""What HPlus costs, side by side with a server in Node.js that promises less: `make benchmark`.

    make benchmark                                   # everything, three turns: about a quarter of an hour
    make benchmark ARGS="--shapes rate,saturation"   # some of it
    make benchmark ARGS="--quick"                    # whether it works: a few users and a second each
    make benchmark ARGS="--save"                     # and keep the table in docs/performance.md

PostgreSQL, Redis and both servers are started for this alone. HPlus runs in production settings, and its
clients show tokens. The servers take turns, because the speed of a machine varies: trust ratios. Exit
status 1 if HPlus lost something, delivered it twice or in another order.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import uvloop

from benchmarks import report, servers
from benchmarks.report import Report
from benchmarks.servers import PeerUnavailable, Server
from benchmarks.shapes.run import Outcome, Run, Sizes
from benchmarks.shapes.table import SHAPES, TWO_WORKERS, Shape
from benchmarks.storage import Storage

TURNS = 3
HPLUS = "HPlus"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="make benchmark"
    )
    options.add_argument("--shapes", type=shapes, default=list(SHAPES), help=f"of {', '.join(SHAPES)}")
    options.add_argument("--turns", type=int, default=TURNS, help=f"of each server (default: {TURNS})")
    options.add_argument("--alone", action="store_true", help="measure HPlus without the peer")
    options.add_argument("--seconds", type=float, help=f"of each load (default: {Sizes.seconds:.0f})")
    options.add_argument("--quick", action="store_true", help="a few users and a second each")
    options.add_argument("--save", action="store_true", help="keep the table in docs/performance.md")
    options.add_argument("--json", type=Path, metavar="FILE", help="write each run's figures there")
    return options


def shapes(text: str) -> list[str]:
    """The names in a list with commas. Raises ArgumentTypeError for an unknown one."""
    names = text.split(",")
    if unknown := set(names) - set(SHAPES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose of {', '.join(SHAPES)}")
    return names


def main() -> int:
    asked = parser().parse_args()
    sizes, found = Sizes.quick() if asked.quick else Sizes(), Report()
    if asked.seconds:
        sizes = replace(sizes, seconds=asked.seconds, idle_seconds=asked.seconds)
    with Storage() as storage, ExitStack() as running:
        hplus = running.enter_context(servers.hplus(storage))
        beside = [] if asked.alone else start_peer(running, storage)
        for turn, name in itertools.product(range(asked.turns), asked.shapes):
            label, shape = SHAPES[name]
            for server_name, server in contestants(turn, name, storage, hplus, beside):
                outcome = measure(shape, Run(server, storage, sizes))
                found.add(label, server_name, outcome)
                say(f"{turn + 1}. {label}, {server_name}: {report.line(outcome)}")
        machine = report.machine(storage)
    table = found.table()
    say(f"\n{machine}\n\n{table}")
    if asked.json:
        asked.json.write_text(json.dumps(found.as_json(), indent=1))
    if asked.save:
        report.save(f"{machine} Medians of {asked.turns} turns.\n\n{table}")
    return int(found.has_faults)


def start_peer(running: ExitStack, storage: Storage) -> list[Server]:
    """The peer, or a sentence about why there is none."""
    try:
        return [running.enter_context(servers.peer(storage))]
    except PeerUnavailable as unavailable:
        say(str(unavailable))
        return []


def contestants(
    turn: int, shape: str, storage: Storage, hplus: Server, beside: list[Server]
) -> Iterator[tuple[str, Server]]:
    """Who is measured, by the name in the table; every second turn begins with the other one."""
    if shape == TWO_WORKERS:
        hplus.stop()
        with servers.hplus(storage, workers=2) as two:
            yield HPLUS, two
        hplus.start()
        yield "one worker", hplus
    else:
        yield from [(server.name, server) for server in (hplus, *beside)][:: -1 if turn % 2 else 1]


def measure(shape: Shape, run: Run) -> Outcome:
    """One run, with a clean garbage collector that does not interfere."""
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(shape(run))
    finally:
        gc.enable()


if __name__ == "__main__":
    sys.exit(main())
