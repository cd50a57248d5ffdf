"""What the book needs beyond Jupyter Book: its notebooks, MathJax offline, comparison sliders."""

import json
import shutil
from html import escape
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
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
    path = Path(app.srcdir).parent / "results" / "numbers.json"
    config.myst_substitutions = json.loads(path.read_text())


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


class Compare(SphinxDirective):
    """Two pictures of one size, one over the other, and a border to move between them.

    ::

        :::{compare} bicubic.png vdsr.png
        :labels: bicubic, VDSR
        :alt: A butterfly's wing
        :::
    """

    required_arguments = 2
    option_spec = {  # noqa: RUF012 (docutils wants a plain dict)
        "labels": directives.unchanged_required,
        "alt": directives.unchanged_required,
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
        return [
            nodes.raw("", '<div class="compare" style="--split: 50%">', format="html"),
            self._image(1, f"{alt}: {right}", "compare-under"),
            self._image(0, f"{alt}: {left}", "compare-over"),
            nodes.raw("", control, format="html"),
        ]

    def _image(self, argument, alt, kind):
        # dark-light: the theme must not dim pictures that are to be judged.
        return nodes.image(uri=self.arguments[argument], alt=alt, classes=[kind, "dark-light"])


def setup(app):
    app.config.mathjax_path = "mathjax/tex-chtml-full.js"
    app.connect("config-inited", copy_notebooks, priority=1)
    app.connect("config-inited", glue_numbers)
    app.connect("html-page-context", drop_thebe)
    app.connect("build-finished", bundle_mathjax)
    app.add_directive("compare", Compare)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
