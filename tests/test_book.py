"""The book builds without warnings, torch or a network, and can be read without a network."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "results" / "notebooks").glob("*.ipynb"))


def test_every_chapter_has_a_page(html):
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    chapters = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    for page in [toc["root"], *chapters]:
        assert (html / f"{page}.html").is_file(), page


def test_mathjax_is_inside(html):
    assert (html / "_static" / "mathjax" / "tex-chtml-full.js").is_file()
    assert list((html / "_static" / "mathjax").rglob("*.woff"))
    assert "_static/mathjax/tex-chtml-full.js" in (html / "recipe.html").read_text()


def test_pages_load_nothing_from_a_network(html):
    remote = re.compile("(https?:)?//")
    for page in html.rglob("*.html"):
        soup = BeautifulSoup(page.read_text(), "html.parser")
        loaded = [tag["src"] for tag in soup.select("[src]")]
        loaded += [tag["href"] for tag in soup.select("link[href]:not([rel=canonical])")]
        assert not [url for url in loaded if remote.match(url)], page
    for sheet in html.rglob("*.css"):
        loaded = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", sheet.read_text())
        assert not [url for url in loaded if remote.match(url)], sheet


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_recorded_notebooks_ran_cleanly(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output.evalue
            assert output.get("name") != "stderr", output.text
