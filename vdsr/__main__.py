"""Commands: ``vdsr upscale``, ``export``, ``study``, ``publish``, ``release`` and others."""

import argparse
import signal
import sys
import threading
import warnings
from functools import partial

from . import __version__, ledger, machine
from .export import export_onnx
from .formats import FORMATS
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
                         help="from 1 to 8, fractions too (default: 2)")  # fmt: skip
    command.add_argument("--ensemble", action="store_true",
                         help="take the mean over eight orientations: a little better, eight "
                         "times as long")  # fmt: skip
    command.add_argument("--precision", choices=["auto", "float32"], default="auto",
                         help="of the arithmetic: the fastest, which changes Set5's mean PSNR "
                         "by less than 0.02 dB, or float32 (default: auto)")  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="no warnings")
    command = commands.add_parser(
        "export",
        help="write the network as ONNX",
        description="Writes the network that comes with the package as an ONNX file, for programs "
        "that run without Python. It takes and gives luminance in [0, 1], of any height and width.",
    )
    command.add_argument("target", help="file to write: network.onnx, say")
    command = commands.add_parser(
        "study",
        help="work through the missing runs of the studies and record them in results/",
        description="Trains what is missing, cheap and decisive runs first, and records each run "
        "in results/ as it ends. Kill it at any time: started again, it goes on.",
    )
    command.add_argument("names", nargs="*", metavar="STUDY", help="which studies (default: all)")
    command.add_argument("--preset", choices=["smoke", "quick", "paper"], default="paper")
    command.add_argument("--hours", type=_hours, help="stop after this long")
    command.add_argument("--seeds", type=int, choices=range(1, 4), default=1, metavar="N",
                         help="how many seeds of each run, 1 to 3 (default: 1)")  # fmt: skip
    where = command.add_mutually_exclusive_group()
    where.add_argument("--workers", type=_workers, metavar="N",
                       help="train in N processes of this machine; auto is one for each GPU, "
                       "or for each two cores")  # fmt: skip
    where.add_argument("--scheduler", metavar="ADDRESS",
                       help="train on the dask cluster whose scheduler is at ADDRESS")  # fmt: skip
    command.add_argument("--list", action="store_true",
                         help="say what is recorded and missing, and train nothing")  # fmt: skip
    command = commands.add_parser("publish", help="show what is recorded: notebooks, README")
    command.add_argument("names", nargs="*", metavar="NOTEBOOK", help="which (default: all)")
    commands.add_parser(
        "release", help="make the benchmark's best run, by validation, the network that ships"
    )
    command = commands.add_parser("ledger", help="check the tables of recorded runs")
    command.add_argument("--check", action="store_true", required=True,
                         help="line by line; says what is wrong and where")  # fmt: skip
    command = commands.add_parser("bench", help="measure speeds, as ratios, into results/bench.csv")
    command.add_argument(
        "names", nargs="*", metavar="ROW", help="which rows (default: all but the longest)"
    )
    options = parser.parse_args(arguments)
    before = _end_cleanly()
    try:
        return _run(options)
    except (ImportError, OSError, TypeError, ValueError, MemoryError, RuntimeError) as error:
        # In one line, whatever a file is called. PyTorch's word for want of memory is the last.
        print(f"vdsr {options.command}: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = ", nothing is written" if options.command == "upscale" else ""
        print(f"vdsr {options.command}: interrupted{kept}", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options):
    """Run a command; what only some of them need is imported by these alone."""
    if options.command == "upscale":
        return _upscale(options)
    if options.command == "export":
        export_onnx(options.target)
        return 0
    if options.command == "ledger":
        faults = ledger.check()
        print("\n".join(faults) or f"The ledger in {machine.ROOT / 'results'} is whole.")
        return 1 if faults else 0
    if options.command == "bench":
        from .study import bench

        return bench.main(options.names)
    if options.command == "publish":
        from .study import publish

        return publish.publish(options.names or None)
    from .study import STUDIES, cluster, queue, table3

    if options.command == "release":
        print(f"run {table3.release('paper')} is now {PRETRAINED}")
        return 0
    if unknown := set(options.names) - set(STUDIES):
        raise ValueError(
            f"unknown study {', '.join(sorted(unknown))}; known are {', '.join(STUDIES)}"
        )
    names = options.names or [*STUDIES]
    if options.list:
        print(queue.overview(names, options.preset, options.seeds))
        return 0
    work = partial(queue.run, names, options.preset, hours=options.hours, seeds=options.seeds)
    if options.workers is None and options.scheduler is None:
        return work()
    with cluster.executor(options.workers, options.scheduler) as executor:
        return work(executor=executor)


def _hours(text):
    """Return a positive number of hours."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of hours, got {text}")
    return value


def _workers(text):
    """Return a number of processes, or ``"auto"``."""
    if text == "auto":
        return text
    if not (text.isdecimal() and 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"must be auto or a number from 1 to 1024, got {text}")
    return int(text)


def _upscale(options):
    """Enlarge a picture file; each warning is one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if options.quiet else "always", UserWarning)
        warnings.showwarning = lambda message, *_: print(
            f"vdsr upscale: warning: {message}", file=sys.stderr
        )
        upscale_file(
            options.source, options.output, options.scale, ensemble=options.ensemble,
            precision=options.precision, progress=sys.stderr.isatty(),
        )  # fmt: skip
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
