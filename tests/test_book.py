"""The book builds without warnings, torch or a network, and can be read without a network."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from vdsr import ledger
from vdsr.study import publish

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_chapter_has_a_page(html):
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    chapters = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    for page in [toc["root"], *chapters]:
        assert (html / f"{page}.html").is_file(), page


@pytest.mark.slow
def test_mathjax_is_inside(html):
    assert (html / "_static" / "mathjax" / "tex-chtml-full.js").is_file()
    assert list((html / "_static" / "mathjax").rglob("*.woff"))
    with_formulas = [p for p in html.rglob("*.html") if 'class="math' in p.read_text()]
    assert with_formulas
    assert all("_static/mathjax/tex-chtml-full.js" in p.read_text() for p in with_formulas)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_no_placeholder_is_left_in_the_text(html):
    for page in html.rglob("*.html"):
        text = BeautifulSoup(page.read_text(), "html.parser").get_text()
        assert "{{" not in text, page


def test_every_number_in_the_text_is_computed_and_every_computed_one_is_used():
    texts = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    used = {name for path in texts for name in re.findall(r"{{ (\w+) }}", path.read_text())}
    spec = spec_from_file_location("book_ext", ROOT / "book" / "_ext" / "book_ext.py")
    spec.loader.exec_module(book_ext := module_from_spec(spec))
    assert used == {*publish.numbers(), *book_ext.tryit_numbers(ROOT / "results" / "tryit.csv")}


def test_the_page_of_speeds_has_those_of_the_page_try_it():
    text = (ROOT / "book" / "performance.md").read_text()
    assert "{{ tryit_table }}" in text and "{{ tryit_megabytes }}" in text


def test_what_the_page_of_speeds_says_of_a_gpu_was_measured():
    rows = ledger.table("bench").set_index("row")
    assert {*rows.device[rows.kind == "cuda"]} == {"NVIDIA H200"}
    value = rows.value
    assert round(60 * value["gpu-literal"]) == 8 and 1.5 < value["gpu-291"] < 2
    assert value["gpu-step"] == pytest.approx(1 / 8, abs=0.01)
    assert value["gpu-step-plain"] == pytest.approx(5, abs=0.3)
    assert value["gpu-enlarge"] / 1000 == pytest.approx(1 / 5, abs=0.02)


def test_the_table_of_contents_leads_to_every_notebook():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    pages = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {Path(f).name for f in files if f.startswith("notebooks/")} == pages
    assert len(files) == len(set(files))
