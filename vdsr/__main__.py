"""Commands: ``vdsr upscale``, ``export``, ``study``, ``publish``, ``release`` and ``bench``."""

import argparse
import sys

from . import bench, benchmark, study
from .experiments import STUDIES
from .export import export_onnx
from .upscale import PRETRAINED, upscale_file


def main(arguments=None):
    """Parse a command line and run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vdsr")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "upscale",
        help="enlarge a picture file",
        description="Enlarges a picture by the network that comes with the package: luminance by "
        "the network, colour and transparency by bicubic interpolation. The colour profile and "
        "the EXIF data are kept, but not the tags of a TIFF.",
    )
    command.add_argument("source", help="the picture: JPEG, PNG, TIFF, WebP, ...")
    command.add_argument("-o", "--output", required=True, metavar="TARGET",
                         help="file to write; its suffix says the format")  # fmt: skip
    command.add_argument("--scale", type=float, default=2, metavar="FACTOR",
                         help="from 1 to 8, fractions too; the network was trained for 2, 3 "
                         "and 4 (default: 2)")  # fmt: skip
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
        try:
            upscale_file(
                options.source, options.output, options.scale, progress=sys.stderr.isatty()
            )
        except (OSError, ValueError) as error:
            print(f"vdsr upscale: {error}", file=sys.stderr)
            return 1
        return 0
    if options.command == "export":
        try:
            export_onnx(options.target)
        except (ImportError, OSError) as error:
            print(f"vdsr export: {error}", file=sys.stderr)
            return 1
        return 0
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


if __name__ == "__main__":
    sys.exit(main())
