"""Two floors: the library, and on top of it the study, which the library does not know."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted((ROOT / "vdsr").rglob("*.py"))
}
STUDY = {name for name in FILES if name.startswith("vdsr.study.")}
LIBRARY = {name for name in FILES if name not in STUDY}


def known(name):
    """Return the module of that name, or None if the project has none."""
    return next((each for each in (name, f"{name}.__init__") if each in FILES), None)


def imports(name, nodes):
    """Return the project's modules that some statements of a module import."""
    package = name.split(".")[:-1]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {known(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            # What is no module itself comes out of the one it is imported from.
            found |= {known(f"{base}.{alias.name}") or known(base) for alias in node.names}
    found.discard(None)
    return found


def everywhere(name):
    return imports(name, ast.walk(ast.parse(FILES[name].read_text())))


def at_import(name):
    """Return what is imported when the module is: not what waits inside a function."""

    def outside(node):
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield child
                yield from outside(child)

    return imports(name, outside(ast.parse(FILES[name].read_text())))


def test_relative_imports_are_resolved():
    """The tests below see nothing if this one is wrong."""
    assert {"vdsr.config", "vdsr.ledger", "vdsr.study.findings"} <= everywhere(
        "vdsr.study.evidence"
    )
    assert "vdsr.study.__init__" in everywhere("vdsr.__main__")
    assert "vdsr.study.bench" in everywhere("vdsr.__main__") - at_import("vdsr.__main__")
    assert {"vdsr.config", "vdsr.runs"} <= at_import("vdsr.__init__")


@pytest.mark.parametrize("name", sorted(LIBRARY - {"vdsr.__main__"}))
def test_the_library_does_not_import_the_study(name):
    """The command line alone stands on both floors."""
    assert not {m for m in everywhere(name) if m.startswith("vdsr.study")}


@pytest.mark.parametrize("floor", [LIBRARY, STUDY], ids=["library", "study"])
def test_imports_go_one_way(floor):
    graph = {name: at_import(name) & floor for name in floor}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' → '.join(error.args[1])}")


def imported(statement):
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True,
        cwd=ROOT,
    )  # fmt: skip
    assert answer.stderr == ""
    return {*answer.stdout.split()}


def drawing(modules):
    names = "matplotlib", "seaborn", "pandas.plotting._matplotlib", "IPython"
    return {m for m in modules if m.startswith(names)}


def test_importing_the_package_is_silent_and_loads_no_plotting_library():
    modules = imported("import vdsr")
    assert not drawing(modules)
    assert not {m for m in modules if m.startswith("vdsr.study")}


def test_importing_the_package_is_quick():
    """What takes long to load, and only some functions need, is loaded when they are called."""
    assert not {"scipy.stats", "scipy.linalg", "scipy.ndimage", "numba"} & imported("import vdsr")


def test_the_queue_needs_no_plotting_library():
    """Machines that only train do not have one."""
    assert not drawing(imported("import vdsr.study, vdsr.study.queue, vdsr.__main__"))


def test_the_readmes_tree_is_the_real_one():
    """Each module is named under its floor, once, and nothing else is."""
    tree = (ROOT / "README.md").read_text().split("```\nbook/ ")[1].split("```")[0]
    library, study = tree.split("vdsr/study/ ")
    for text, folder in ((library, ROOT / "vdsr"), (study, ROOT / "vdsr" / "study")):
        named = re.findall(r"^  (\w+\.py) ", text, re.MULTILINE)
        assert sorted(named) == sorted(
            p.name for p in folder.glob("*.py") if p.name != "__init__.py"
        )
