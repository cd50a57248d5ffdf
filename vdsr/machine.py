"""Where a run is made: the code's commit, the hardware, and whether anything else used it."""

import ctypes
import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil
import torch

# The project's folder, if the package is used from a clone; else one of its own where one works.
CLONE = Path(__file__).parents[1]
ROOT = CLONE if (CLONE / "pyproject.toml").exists() else Path.cwd() / "vdsr-study"
_LOADED = time.time()  # when this process has read its code, to a second or so
# For glibc's mallopt: blocks below 32 MiB come from the heap (M_MMAP_THRESHOLD), of which nothing
# is given back (M_TRIM_THRESHOLD), and which grows by 256 MiB (M_TOP_PAD).
_KEEPING = (-3, 2**25), (-1, 2**31 - 1), (-2, 2**28)
# Of torch's threads, the number that each thread inside `one_thread` goes back to.
_before, _entering = {}, threading.Lock()


@cache  # of the code that this process has loaded
def commit():
    """Return the project's commit, and why results of this code could not be recorded.

    Where there is no git, in a copied tree, ``VDSR_COMMIT`` says which commit it is a copy of.

    Returns
    -------
    name : str
        Ten digits, or ``"unknown"``.
    trouble : str
        Empty if all is well.
    """
    try:
        top = git("rev-parse", "--show-toplevel")
        if os.path.samefile(top, CLONE):
            name = git("rev-parse", "--short=10", "HEAD")
            if git("status", "--porcelain", "--", "vdsr"):
                return name, "vdsr/ has changes that are not committed; commit them"
            if any(_changed(module) for module in [*sys.modules.values()]):
                return name, "vdsr/ was changed after this process had loaded it; start it anew"
            return name, ""
        reason = f"{CLONE} is not a clone of the project, but inside {top}"
    except FileNotFoundError:
        reason = "git is not installed"
    except subprocess.CalledProcessError as error:
        reason = f"git says: {(error.stderr.strip().splitlines() or [error])[0]}"
    if copied := os.environ.get("VDSR_COMMIT", "").strip():
        return copied, ""
    remedy = f"set VDSR_COMMIT to the commit that {CLONE} is a copy of"
    if "dubious ownership" in reason:
        remedy = f"git config --global --add safe.directory {CLONE} makes git trust it, or {remedy}"
    return "unknown", f"{reason}; {remedy}"


def _changed(module):
    """Return whether a module is one of the package's whose file is newer than the import."""
    name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
    if not (isinstance(name, str) and name.partition(".")[0] == "vdsr" and file):
        return False
    with suppress(OSError):
        return os.stat(file).st_mtime > _LOADED
    return True  # it is gone


def git(*arguments):
    """Return what git says of the clone this package is in."""
    command = ["git", "-C", str(CLONE), *arguments]
    done = subprocess.run(
        command, text=True, capture_output=True, check=True, env=os.environ | {"LC_ALL": "C"}
    )
    return done.stdout.strip()


def device_name(device):
    """Return what hardware a torch device, or its name, is."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"


@contextmanager
def one_thread():
    """Let torch compute in one thread in a block, and give the number that it had.

    A thread of Python that enters while another is inside would find a one that is not to stay,
    and takes the other's number.
    """
    me = threading.get_ident()
    with _entering:
        threads = torch.get_num_threads()
        nested = me in _before
        if not nested:
            threads = _before[me] = next(iter(_before.values()), threads)
        torch.set_num_threads(1)
    try:
        yield threads
    finally:
        with _entering:
            if not nested:
                del _before[me]
            torch.set_num_threads(threads)


def keep_memory():
    """Let this process keep what it frees, where the C library is glibc.

    Each training step on a CPU takes and frees the same tens of megabytes. Taking new pages for
    them costs a process of one thread a tenth to a fifth of its time.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _KEEPING:
            mallopt(parameter, value)


def bf16_is_fast(device):
    """Return whether a device has instructions of its own for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def instructions():
    """Return which of a processor's wide instructions torch can use here: AVX512, AMX, say."""
    found = torch.backends.cpu.get_cpu_capability()  # DEFAULT is what every processor has
    names = {
        "NEON": platform.machine() in ("aarch64", "arm64"),
        found: found != "DEFAULT",
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    return " ".join(name for name, there in names.items() if there) or "no wide instructions"


def _cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = (line.split(": ")[1] for line in lines if line.startswith("model name"))
        return " ".join(next(names).split())
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class OtherLoad:
    """Measures how much processor time other processes use while something runs."""

    def __init__(self):
        self._start = self._now()

    @property
    def cores(self):
        """How many cores others have kept busy since the start, on average."""
        busy, own, wall = (b - a for a, b in zip(self._start, self._now(), strict=True))
        return max(0.0, busy - own) / max(wall, 1e-9)

    def _now(self):
        times, process = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = times.idle + getattr(times, "iowait", 0) + getattr(times, "steal", 0)
        # Guests' time is part of user's, and must not count twice.
        total = sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)
        clock = time.monotonic()
        return total - idle, process.user + process.system, clock
