"""Measures the page Try it against `vdsr.upscale` on the same cores, into results/tryit.csv.

Run it after `make book`, with as little beside it as can be: ``python tests/measure_tryit.py``.
Page and package take turns, so that what else the machine does slows both.
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
from time import perf_counter

import torch
from conftest import FLAGS
from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from vdsr import load_images, upscale

ROOT = Path(__file__).parents[1]
ROUNDS = 2
MEASURE = "return performance.getEntriesByName('enlarge').at(-1)?.duration"


class Counting(SimpleHTTPRequestHandler):
    """Serves the book, and counts the bytes."""

    bytes = 0

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        Counting.bytes += Path(source.name).stat().st_size
        super().copyfile(source, outputfile)


def by_page(address, picture, threads):
    """Return seconds and megabytes of enlarging a picture in a browser that has loaded nothing."""
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
        browser.find_element("css selector", "#tryit [type=file]").send_keys(str(picture))
        WebDriverWait(browser, 3600, 1).until(lambda b: b.execute_script(MEASURE))
        return browser.execute_script(MEASURE) / 1000, Counting.bytes / 1e6


def by_package(picture, threads):
    """Return the seconds that `vdsr.upscale` takes."""
    torch.set_num_threads(threads)
    upscale(picture[:64, :64], 2)  # loads the network
    start = perf_counter()
    upscale(picture, 2)
    return perf_counter() - start


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
                before = by_package(photo, threads)
                page, megabytes = by_page(address, picture, threads)
                after = by_package(photo, threads)
                rows.append(
                    {
                        "round": repeat, "threads": threads, "page_seconds": round(page, 2),
                        "package_seconds": round((before + after) / 2, 2),
                        "megabytes": round(megabytes, 2), "load": round(os.getloadavg()[1], 1),
                        "cores": cores, "processor": processor,
                        "torch": torch.__version__, "commit": commit,
                    }
                )  # fmt: skip
                print(rows[-1], flush=True)
    server.shutdown()
    with open(ROOT / "results" / "tryit.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
