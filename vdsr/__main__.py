"""Commands: ``vdsr upscale``, ``study``, ``publish``, ``release`` and ``bench``."""

import argparse
import signal
import sys
import threading
import warnings

from . import __version__, bench, benchmark, study
from .experiments import STUDIES
from .formats import FORMATS
from .pictures import LossWarning
from .upscale import PRETRAINED, upscale_file


def main(arguments=None):
    """Parse a command line and run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="vdsr")
    parser.add_argument("--version", action="version", version=f"vdsr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "upscale",
        help="enlarge a picture file",
        description="Enlarges a picture by the network that comes with the package: luminance by "
        "the network, colour and transparency by bicubic interpolation. What the picture's file "
        "holds beside pixels is kept where the format that is written holds it; a warning names "
        "each loss.",
    )
    command.add_argument("source", help=f"the picture: {', '.join(kind.name for kind in FORMATS)}")
    command.add_argument("-o", "--output", required=True, metavar="TARGET",
                         help="file to write; its suffix says the format")  # fmt: skip
    command.add_argument("--scale", type=float, default=2, metavar="FACTOR",
                         help="from 1 to 8, fractions too; the network was trained for 2, 3 "
                         "and 4 (default: 2)")  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="say nothing of losses")
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
    command = commands.add_parser(
        "release", help="make the benchmark's best run, by validation, the network that ships"
    )
    command.add_argument("--preset", choices=["cpu", "paper"], default="paper")
    commands.add_parser("bench", help="time a training step against the machine's own speed")
    options = parser.parse_args(arguments)
    if options.command == "upscale":
        return _upscale(options)
    if options.command == "bench":
        return bench.main()
    if options.command == "release":
        print(f"run {benchmark.release(options.preset)} is now {PRETRAINED}")
        return 0
    if options.command == "publish":
        return study.publish()
    unknown = set(options.names) - set(STUDIES)
    if unknown:
        parser.error(f"unknown study {', '.join(sorted(unknown))}; known are {', '.join(STUDIES)}")
    return study.run(options.names, options.preset, options.hours)


def _upscale(options):
    """Enlarge a picture file; whatever is wrong is said in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if options.quiet else "always", LossWarning)
        warnings.showwarning = lambda message, *_: print(
            f"vdsr upscale: warning: {message}", file=sys.stderr
        )
        before = _end_cleanly()
        try:
            upscale_file(
                options.source, options.output, options.scale, progress=sys.stderr.isatty()
            )
        except (OSError, TypeError, ValueError, MemoryError) as error:
            print(f"vdsr upscale: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("vdsr upscale: interrupted, nothing is written", file=sys.stderr)
            return 130
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 0


def _end_cleanly():
    """Let signals that ask for the end leave no file behind; return their former handlers."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    heeded = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]  # nohup's are not
    return {n: signal.signal(n, lambda n, _: sys.exit(128 + n)) for n in heeded}


if __name__ == "__main__":
    sys.exit(main())
