"""What the contributing page shows works."""

import re
from pathlib import Path
from types import SimpleNamespace

from vdsr.study import STUDIES, load
from vdsr.study.evidence import Study
from vdsr.study.findings import HINTS

ROOT = Path(__file__).parents[1]


def test_the_example_of_a_new_study_is_one(tmp_path, monkeypatch):
    page = (ROOT / "CONTRIBUTING.md").read_text()
    [example] = [
        block for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        if "Study(" in block
    ]  # fmt: skip
    space = {}
    exec(example, space)
    study = space["record"]
    entry = page.split("of that file: `")[1].split(",`")[0]  # as it stands in STUDIES
    space["configs"] = SimpleNamespace(width=space["width"])
    assert eval(entry, space) == study
    assert isinstance(study, Study)
    assert study.name not in STUDIES
    assert f'load("{study.name}", preset, refresh=refresh, missing=missing)' in page
    monkeypatch.setitem(STUDIES, study.name, study)
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path))
    for preset in ("quick", "paper"):
        nothing = load(study.name, preset, missing="skip")
        assert {finding.verdict for finding in nothing.findings} == {"not run"}
    shown = load(study.name, "smoke")
    assert shown.findings
    for finding in shown.findings:
        assert f'study.finding("{finding.name}")' in page
        assert finding.verdict in HINTS.values()
        assert all(case.known for case in finding.cases)
