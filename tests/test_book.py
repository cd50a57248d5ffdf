"""The book builds without warnings, torch or a network, and can be read without a network."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

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
    for part in (notebook, *notebook.cells):  # which hold paths and times of the day
        assert not {"papermill", "execution"} & set(part.metadata)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output.evalue
            assert output.get("name") != "stderr", output.text


def test_internal_links_lead_somewhere(html):
    soups = {p.resolve(): BeautifulSoup(p.read_text(), "html.parser") for p in html.rglob("*.html")}
    for page, soup in soups.items():
        for href in {a["href"] for a in soup.select("a[href]")}:
            url = urlsplit(href)
            if url.scheme or url.netloc:
                continue
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            assert target.exists(), (page.name, href)
            if url.fragment and target in soups:
                assert soups[target].find(id=unquote(url.fragment)), (page.name, href)


def test_no_placeholder_is_left_in_the_text(html):
    for page in html.rglob("*.html"):
        text = BeautifulSoup(page.read_text(), "html.parser").get_text()
        assert "{{" not in text, page


def test_chapters_open_with_a_question_and_close_with_what_was_learned():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    chapters = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    for chapter in chapters:
        if chapter.startswith("notebooks/") or chapter in ("provenance", "bibliography"):
            continue
        text = (ROOT / "book" / f"{chapter}.md").read_text()
        assert re.search(r"\A# .+\n\n\*[^*]+\?\*\n", text), chapter
        box = text.split(":::{admonition} What to take along\n")[1]
        assert len(re.findall("^- ", box, re.MULTILINE)) == 3, chapter
