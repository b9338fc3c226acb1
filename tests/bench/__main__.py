"""`scripts/bench`: runs the works that are named, prints a table, and writes what it is asked to."""

import argparse
import asyncio
import contextlib
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from tests.bench import environment, plots, table
from tests.bench.figures import Figures
from tests.bench.lab import Lab, Options
from tests.bench.servers import tools
from tests.bench.works import (
    broadcast,
    deadlines,
    growth,
    handshakes,
    idle,
    journal,
    life,
    machine,
    presence,
    targeted,
)

WORKS: dict[str, Callable[[Lab], Awaitable[None]]] = {
    work.NAME: work.measure
    for work in (machine, broadcast, targeted, life, presence, deadlines, journal, idle, handshakes, growth)
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"{', '.join(WORKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller: under three minutes in all")
    parser.add_argument("--runs", type=int, help="runs of each contender (5; 1 when quick)")
    parser.add_argument("--only-hub", action="store_true", help="without references")
    parser.add_argument("--install", action="store_true", help="install the references first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put the tables between the file's markers, and plots beside it",
    )
    chosen = parser.parse_args()
    for name in chosen.works:
        if name not in WORKS:
            parser.error(f"there is no work {name!r}: {', '.join(WORKS)}")
    return chosen


async def measure(lab: Lab, names: list[str]) -> None:
    current = asyncio.current_task()
    assert current is not None
    # Told to stop, it stops what it started first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    for name in names:
        lab.say(name)
        try:
            await WORKS[name](lab)
        except asyncio.CancelledError:
            for left in names[names.index(name) :]:
                lab.figures.failed(left, "stopped before its end")
            raise
        except Exception as error:
            # What the other works found is not lost with it.
            traceback.print_exc()
            lab.figures.failed(name, repr(error))


def _command(chosen: argparse.Namespace) -> str:
    """What was asked for; where it is written to changes no figure."""
    flags = [f"--{name.replace('_', '-')}" for name in ("quick", "only_hub") if getattr(chosen, name)]
    runs = ["--runs", str(chosen.runs)] if chosen.runs else []
    return shlex.join(["scripts/bench", *chosen.works, *flags, *runs])


def main() -> int:
    chosen = arguments()
    if chosen.install:
        tools.install(lambda text: print(text, file=sys.stderr))
    facts = {"command": _command(chosen)} | environment.describe()
    options = Options(
        runs=chosen.runs or (1 if chosen.quick else 5), quick=chosen.quick, only_hub=chosen.only_hub
    )
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as directory:
        # Postgres runs as another user where we are root.
        Path(directory).chmod(0o755)
        lab = Lab(options, figures, Path(directory))
        # What was measured until somebody stopped it is not lost either.
        with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
            uvloop.run(measure(lab, chosen.works or list(WORKS)))
    text = table.render(figures, facts)
    print(text)
    if chosen.json:
        figures.write(chosen.json, facts)
    if chosen.write:
        try:
            plot = plots.write(figures, chosen.write.parent)
            text += f"\n\n![What a unit costs as everything grows]({plot.name})"
        except plots.NoPlots as error:
            print(f"Not drawn: {error}.", file=sys.stderr)
        table.write(chosen.write, text)
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
