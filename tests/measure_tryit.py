"""Measures the page Try it against `vdsr.upscale` on the same cores, into results/tryit.csv.

Run it after `make book`, with as little beside it as can be: ``python tests/measure_tryit.py``.
Page and package take turns, so that what else the machine does slows both, and the processor's
time is taken beside the clock's, which other work does not count in.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter, process_time, sleep

import psutil
import torch
from conftest import FLAGS
from PIL import Image
from selenium import webdriver

from vdsr import load_images, upscale

ROOT = Path(__file__).parents[1]
ROUNDS = 3
BEGUN = "return document.querySelector('.tryit-progress').textContent.includes('tiles')"
DURATION = "return performance.getEntriesByName('enlarge').at(-1)?.duration"


class Counting(SimpleHTTPRequestHandler):
    """Serves the book, and counts the bytes."""

    bytes = 0

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        Counting.bytes += Path(source.name).stat().st_size
        super().copyfile(source, outputfile)


def by_page(address, picture, threads):
    """Return what it costs a browser that has loaded nothing, as part of a row."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for flag in FLAGS.split():
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as browser:
        browser.execute_cdp_cmd(
            "Emulation.setHardwareConcurrencyOverride", {"hardwareConcurrency": threads}
        )
        Counting.bytes = 0
        browser.get(address)
        processes = psutil.Process(service.process.pid).children(recursive=True)

        def used():
            return sum(sum(process.cpu_times()[:2]) for process in processes)

        def wait(script):
            while not (answer := browser.execute_script(script)):
                sleep(0.2)
            return answer

        browser.find_element("css selector", "#tryit [type=file]").send_keys(str(picture))
        wait(BEGUN)
        begun = used()
        seconds = wait(DURATION) / 1000
        return {
            "page_seconds": round(seconds, 2),
            "page_processor_seconds": round(used() - begun, 2),
            "megabytes": round(Counting.bytes / 1e6, 2),
            "chromium": browser.capabilities["browserVersion"],
        }


def by_package(picture, threads):
    """Return what it costs `vdsr.upscale`, as part of a row."""
    torch.set_num_threads(threads)
    upscale(picture[:64, :64], 2)  # loads the network
    start = perf_counter(), process_time()
    upscale(picture, 2)
    return {
        "package_seconds": round(perf_counter() - start[0], 2),
        "package_processor_seconds": round(process_time() - start[1], 2),
    }


def main():
    """Measure, and write the rows."""
    photo = load_images("samples-test")["astronaut"]
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Counting, directory=ROOT / "_build" / "html")
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/tryit.html"
    cores = len(os.sched_getaffinity(0))
    processor = re.search("model name\\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    commit = subprocess.check_output(["git", "rev-parse", "--short=10", "HEAD"], text=True).strip()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "photo.png"
        Image.fromarray(photo).save(picture)
        for repeat in range(1, ROUNDS + 1):
            for threads in sorted({1, cores}):
                row = {"round": repeat, "threads": threads}
                row |= by_package(photo, threads) | by_page(address, picture, threads)
                row |= {"load": round(os.getloadavg()[1], 1), "cores": cores}
                row |= {"processor": processor, "torch": torch.__version__, "commit": commit}
                rows.append(row)
                print(row, flush=True)
                with open(ROOT / "results" / "tryit.csv", "w", newline="") as file:
                    writer = csv.DictWriter(file, row)
                    writer.writeheader()
                    writer.writerows(rows)  # so that it can be stopped after any row
    server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
