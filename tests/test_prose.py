"""What is written for readers: spelling, words that were puzzles, length and shape."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from vdsr.study import lessons

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [
    *NOTEBOOKS, *sorted((ROOT / "book").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]  # fmt: skip
each = pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
EVIDENCE = [
    Path(chapter["file"]).name
    for part in TOC["parts"] if part["caption"] == "The evidence"
    for chapter in part["chapters"]
]  # fmt: skip

# Ways to say a result that readers took for its opposite, or for a puzzle.
BANNED = [
    r"what to take along",
    r"\bnone diverges\b",
    r"[-+]\d+\.\d+ dB from (the|bicubic|SRCNN)\b",  # above it, below it, apart?
    r"\bends? [\d.]+ dB behind\b",
    r"\bbehind (all others|everything else)\b",
    r"\bbetter than both at\b",
    r"\d+ of \d+ cells\b",
    r"\b(a|the|its|small|large) leads?\b",  # the verb is clear
    r"`(cpu|short)` preset",
]


def prose(path):
    """The words that are read, without code, formulas, directives' heads and markup."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"<!-- \w+ -->.*?<!-- /\w+ -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(```|\$\$).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^:::.*|^:\w+: .*", "", text, flags=re.MULTILINE)
    text = re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$|\]\([^)]*\)", " ", text)
    return text


@each
def test_no_word_that_was_a_puzzle(path):
    text = " ".join(prose(path).split())
    for words in BANNED:
        assert not re.search(words, text, re.IGNORECASE), words


def test_spelling():
    program = Path(sys.executable).with_name("codespell")
    found = subprocess.run([program, *TEXTS, ROOT / "vdsr"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", EVIDENCE)
def test_an_evidence_page_is_written_out(name):
    assert len(prose(ROOT / "notebooks" / f"{name}.ipynb").split()) >= 500


@pytest.mark.parametrize("name", EVIDENCE)
def test_an_evidence_page_has_its_shape(name):
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    page = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert re.match(r"# .+\n\n\*[^*]+\?\*\n", page + "\n")  # its question
    if name != "pictures":
        headings = re.findall(r"^## (.+)", page, re.MULTILINE)
        asked = ["Why it matters", "What to expect", "The experiment", "What else could explain it"]
        assert [h for h in headings if h in asked] == asked
        assert any(h.endswith("say, and what they do not") for h in headings)
        assert re.search(
            r"^What counts as (yes|an answer)|What would count|^What decides", page, re.M
        )
    assert re.search(r":::\{admonition\} Key points\n(- .+\n(  .+\n)*){3}:::", page)
    assert page.count("{admonition} Solution\n:class: dropdown") == page.count("{admonition} Exerc")
    assert "{admonition} Exerc" in page
    assert "## Where to read on" in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_figure_is_drawn_captioned_and_referred_to_by_one_name(path):
    cells = nbformat.read(path, as_version=4).cells
    page = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    captioned = re.findall(r":::\{glue:figure\} (\S+)\n:name: fig-(\S+)\n", page)
    drawn = re.findall(r'figures\.show\(\n?\s*"([\w-]+)"', code)
    assert sorted(captioned) == sorted((figure, figure) for figure in drawn)
    assert drawn


def test_figures_have_names_of_their_own():
    """Two of one name are a warning when the book is built whole, and an error there."""
    cells = [c for path in NOTEBOOKS for c in nbformat.read(path, as_version=4).cells]
    texts = [c.source for c in cells if c.cell_type == "markdown"]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")]
    names = re.findall(r"^:name: (\S+)$", "\n".join(texts), re.MULTILINE)
    assert len(names) > 10
    assert sorted(names) == sorted({*names})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_figure_stands_in_its_place_alone(path):
    """The cell that draws it shows nothing, or the page would have it a second time."""
    cells = nbformat.read(path, as_version=4).cells
    drawing = [c for c in cells if c.cell_type == "code" and "figures.show(" in c.source]
    assert all("remove-output" in cell.metadata.get("tags", []) for cell in drawing)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_number_named_in_the_text_is_computed(path):
    cells = nbformat.read(path, as_version=4).cells
    page = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    named = {*re.findall(r"\{glue:text\}`(\w+)`", page)}
    recorded = nbformat.read(ROOT / "results" / "notebooks" / path.name, as_version=4)
    outputs = [output for cell in recorded.cells for output in cell.get("outputs", [])]
    glued = [o.metadata.scrapbook for o in outputs if "scrapbook" in o.get("metadata", {})]
    assert named == {each.name for each in glued if each.mime_prefix}  # figures have none


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_sets_up_is_folded(path):
    for cell in nbformat.read(path, as_version=4).cells:
        tags = {*cell.metadata.get("tags", [])}
        if cell.cell_type == "code" and path.stem in EVIDENCE:
            assert "hide-input" in tags
        if "figures.show(" in cell.source and cell.cell_type == "code":
            assert "hide-input" in tags or path.stem in lessons.PAGES
