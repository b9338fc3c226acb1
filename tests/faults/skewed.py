"""The command line of a machine whose clock is off: `python -m tests.faults.skewed SECONDS serve …`."""

import sys
import time

from hub.cli import main


def skew(seconds: float) -> None:
    true, true_ns = time.time, time.time_ns
    time.time = lambda: true() + seconds
    time.time_ns = lambda: true_ns() + round(seconds * 1e9)


if __name__ == "__main__":
    skew(float(sys.argv.pop(1)))
    main()
