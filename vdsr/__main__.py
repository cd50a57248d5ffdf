"""Commands: ``python -m vdsr study``, ``publish`` and ``bench``."""

import argparse
import sys

from . import bench, study
from .experiments import STUDIES


def main(arguments=None):
    """Parse a command line and run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vdsr")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "study",
        help="work through the missing runs of the studies and record them in results/",
        description="Trains what is missing, cheap and decisive runs first, and records each run "
        "in results/ as it ends. Kill it at any time: started again, it goes on.",
    )
    command.add_argument("names", nargs="*", default=[*STUDIES], metavar="STUDY",
                         help=f"which studies: {', '.join(STUDIES)} (default: all)")  # fmt: skip
    command.add_argument("--preset", choices=["cpu", "paper"], default="paper")
    command.add_argument("--hours", type=float, default=None, help="stop after this long")
    commands.add_parser("publish", help="show what is recorded: notebooks in results/, README")
    commands.add_parser("bench", help="time a training step against the machine's own speed")
    options = parser.parse_args(arguments)
    if options.command == "bench":
        return bench.main()
    if options.command == "publish":
        return study.publish()
    unknown = set(options.names) - set(STUDIES)
    if unknown:
        parser.error(f"unknown study {', '.join(sorted(unknown))}; known are {', '.join(STUDIES)}")
    return study.run(options.names, options.preset, options.hours)


if __name__ == "__main__":
    sys.exit(main())
