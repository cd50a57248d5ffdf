"""What the book needs beyond Jupyter Book: notebooks, MathJax offline, sliders, the page Try it."""

import csv
import json
import shutil
from html import escape
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from docutils import nodes
from docutils.parsers.rst import directives
from PIL import Image
from sphinx.util.docutils import SphinxDirective


def copy_notebooks(app, config):
    """Make book/notebooks/ equal to results/notebooks/, leaving unchanged files untouched."""
    source = Path(app.srcdir).parent / "results" / "notebooks"
    target = Path(app.srcdir) / "notebooks"
    target.mkdir(exist_ok=True)
    for old in target.glob("*.ipynb"):
        if not (source / old.name).exists():
            old.unlink()
    for new in source.glob("*.ipynb"):
        old = target / new.name
        if not old.exists() or old.read_bytes() != new.read_bytes():
            shutil.copyfile(new, old)


def glue_numbers(app, config):
    """Let {{ name }} in the text stand for a number that was computed from the records."""
    results = Path(app.srcdir).parent / "results"
    numbers = json.loads((results / "numbers.json").read_text())
    config.myst_substitutions = numbers | tryit_numbers(results / "tryit.csv")


def tryit_numbers(path):
    """Return what the page Try it says of its own weight and speed."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))

    table = ["| threads | the page | `vdsr.upscale` | the page needs |", "|---|---|---|---|"]
    for threads in sorted({row["threads"] for row in rows}, key=int):
        some = [row for row in rows if row["threads"] == threads]
        page, package = (
            median(float(row[f"{who}_processor_seconds"]) for row in some)
            for who in ("page", "package")
        )
        ratio = f"{page / package:.1f} times as long"
        table.append(f"| {threads} | {page:.0f} s | {package:.0f} s | {ratio} |")
    return {
        "tryit_table": "\n".join(table),
        "tryit_megabytes": f"{float(rows[0]['megabytes']):.0f}",
        "tryit_cores": rows[0]["cores"],
        "tryit_processor": rows[0]["processor"],
    }


def bundle_mathjax(app, exception):
    """Copy the part of MathJax that the book needs beside it, so that it reads offline."""
    if exception is None and app.builder.format == "html":
        package = Path(find_spec("sphinx-mathjax-offline").origin).parent
        source, target = package / "static" / "mathjax", Path(app.outdir) / "_static" / "mathjax"
        fonts = "output/chtml/fonts/woff-v2"
        shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)
        shutil.copyfile(source / "tex-chtml-full.js", target / "tex-chtml-full.js")
        # index.html only leads to the first page and names no icon, so browsers ask for this one.
        shutil.copyfile(
            Path(app.srcdir) / "_static" / "favicon.svg", Path(app.outdir) / "favicon.ico"
        )


def drop_thebe(app, pagename, templatename, context, doctree):
    """Leave out live code: it loads from a network, and Sphinx includes it twice, an error."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename}{script.attributes}".lower()
    ]


class Captioned(SphinxDirective):
    """A figure with a number, whose caption is the directive's text."""

    has_content = True

    def figure(self, *drawn):
        """Return a figure of what is drawn and the caption, under the option's name."""
        caption = nodes.caption()
        figure = nodes.figure("", *drawn, caption)
        text, messages = self.state.inline_text(" ".join(self.content), self.lineno)
        caption.extend([*text, *messages])
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


class Drawing(Captioned):
    """A figure from an SVG file that stands in the page, its text in the page's colour.

    ::

        :::{drawing} ../results/figures/board.svg
        :name: fig-board

        The caption.
        :::
    """

    required_arguments = 1
    option_spec = {"name": directives.unchanged_required}  # noqa: RUF012 (as docutils wants it)

    def run(self):
        path = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(str(path))
        return self.figure(nodes.raw("", path.read_text(encoding="utf-8"), format="html"))


class Compare(Captioned):
    """Two pictures of one size, one over the other, and a border to move between them.

    ::

        :::{compare} bicubic.png vdsr.png
        :labels: bicubic, VDSR
        :alt: A butterfly's wing
        :name: fig-wing

        The caption.
        :::
    """

    required_arguments = 2
    option_spec = {  # noqa: RUF012 (as docutils wants it)
        "labels": directives.unchanged_required,
        "alt": directives.unchanged_required,
        "name": directives.unchanged_required,
    }

    def run(self):
        left, right = (s.strip() for s in self.options["labels"].split(","))
        alt = self.options["alt"]
        # The invisible range input brings mouse, touch and keyboard control.
        control = (
            f'<span class="compare-left">{escape(left)}</span>'
            f'<span class="compare-right">{escape(right)}</span>'
            f'<input type="range" value="50" aria-label="{escape(f"{left} or {right}: {alt}")}"'
            " oninput=\"this.parentNode.style.setProperty('--split', this.value + '%')\"></div>"
        )
        return self.figure(
            nodes.raw("", '<div class="compare" style="--split: 50%">', format="html"),
            self._image(1, f"{alt}: {right}", "compare-under"),
            self._image(0, f"{alt}: {left}", "compare-over"),
            nodes.raw("", control, format="html"),
        )

    def _image(self, argument, alt, kind):
        # dark-light: the theme must not dim pictures that are to be judged.
        return nodes.image(uri=self.arguments[argument], alt=alt, classes=[kind, "dark-light"])


# Left, top, right and bottom of the sample pictures in what scikit-image brings.
SAMPLES = {
    "astronaut": ("astronaut.png", (160, 20, 304, 164)),
    "cat": ("chelsea.png", (100, 60, 244, 204)),
    "coffee": ("coffee.png", (200, 100, 344, 244)),
}


class TryIt(SphinxDirective):
    """The page that enlarges a reader's picture, or, without its runtime, what it lacks."""

    def run(self):
        if not _runtime(self.env.srcdir).exists():
            text = (
                "This copy of the book was built without ONNX Runtime Web, which this page computes"
                " with. Where npm is installed, make book fetches it, and builds the page whole."
            )
            return [nodes.warning("", nodes.paragraph(text=text))]
        page = Path(self.env.srcdir) / "_tryit" / "app.html"
        return [nodes.raw("", page.read_text(), format="html")]


def _runtime(srcdir):
    """Return the network that `make book` exports, after it has fetched what runs it, beside it."""
    return Path(srcdir).parent / "_build" / "tryit" / "network.onnx"


def read_tryit_again(app, env, added, changed, removed):
    """Have the page Try it look for its runtime in each build."""
    return ["tryit"]


def copy_tryit(app, exception):
    """Copy what only the page Try it loads."""
    runtime = _runtime(app.srcdir)
    if exception is None and app.builder.format == "html" and runtime.exists():
        target = Path(app.outdir) / "_static" / "tryit"
        for source in (runtime.parent, Path(app.srcdir) / "_tryit"):
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns("*.html"), dirs_exist_ok=True
            )
        pictures = Path(find_spec("skimage").origin).parent / "data"
        for name, (file, box) in SAMPLES.items():
            Image.open(pictures / file).crop(box).save(target / f"{name}.png")


def setup(app):
    app.config.mathjax_path = "mathjax/tex-chtml-full.js"
    app.connect("config-inited", copy_notebooks, priority=1)
    app.connect("config-inited", glue_numbers)
    app.connect("html-page-context", drop_thebe)
    app.connect("build-finished", bundle_mathjax)
    app.connect("env-get-outdated", read_tryit_again)
    app.connect("build-finished", copy_tryit)
    app.add_directive("compare", Compare)
    app.add_directive("drawing", Drawing)
    app.add_directive("tryit", TryIt)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
