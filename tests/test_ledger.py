import json
import os
import re
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vdsr import TrainConfig, ledger, machine
from vdsr.config import run_id
from vdsr.files import write_text
from vdsr.ledger import DamagedLedger
from vdsr.runs import Run

pytestmark = pytest.mark.usefixtures("elsewhere")
CONFIG = TrainConfig(train_set="samples-test", eval_sets=("samples-test",), eval_scales=(2, 3))


def made(seed=0, psnr=30.0, diverged="", **settings):
    """Return a finished run as training leaves it, of two steps scored at two scales each."""
    config = replace(CONFIG, seed=seed, **settings)
    history = [
        {"run": run_id(config), "step": step, "epoch": step / 6, "train_loss": 1e-3, "clipped": 0.5,
         "dataset": "samples-test", "scale": scale, "psnr": psnr, "ssim": 0.9}
        for step in (6, 12)
        for scale in (2, 3)
    ]  # fmt: skip
    record = {
        "commit": "abc", "torch": "2.13.0", "device": "AMD EPYC, 2 threads", "arithmetic": "bf16",
        "updates": 12, "seconds": 3.25, "tflop": 0.5, "others": 0.01, "diverged": diverged,
        "trouble": "",
    }  # fmt: skip
    return Run(run_id(config), config, pd.DataFrame(history), record)


@pytest.fixture
def tables(tmp_path):
    """A ledger of three runs; the paths of its two tables."""
    for seed in range(3):
        ledger.record(made(seed), "paper")
    return {name: tmp_path / "results" / f"{name}.csv" for name in ("runs", "scores")}


def texts(tables):
    return {name: path.read_bytes() for name, path in tables.items()}


def test_what_is_recorded_comes_back(tables):
    ledger.record(made(3, epochs=None, steps=99, scales=(2,), residual=False), "quick")
    runs, scores = ledger.read()
    assert [*runs] == [*ledger.COLUMNS["runs"]]
    assert [*scores] == [*ledger.COLUMNS["scores"]]
    assert [*runs.run] == [run_id(made(seed).config) for seed in range(3)] + [runs.run[3]]
    last = runs.iloc[3]
    assert (last.preset, last.scales, last.steps, last.device) == (
        "quick", "2", 99, "AMD EPYC, 2 threads"
    )  # fmt: skip
    assert np.isnan(last.epochs)
    assert (last.residual, runs.residual.dtype, runs.seed.dtype) == (False, bool, np.int64)
    assert (last.learning_rate, last.theta, last.seconds, last.tflop) == (0.1, 1e-4, 3.25, 0.5)
    assert (len(scores), scores.scale.dtype, last.scores) == (16, np.float64, 4)
    assert ledger.check() == []


def test_nothing_recorded_is_two_empty_tables():
    runs, scores = ledger.read()
    assert (len(runs), len(scores)) == (0, 0)
    assert [*runs] == [*ledger.COLUMNS["runs"]]
    assert ledger.check() == []


def test_what_is_not_a_number_stays_so():
    run = made(diverged="the loss is no longer finite, at step 7")
    run.history.loc[2:, ["train_loss", "clipped", "psnr", "ssim"]] = np.nan
    ledger.record(run, "paper")
    runs, scores = ledger.read()
    assert [*scores.psnr.isna()] == [False, False, True, True]
    assert runs.diverged[0] == "the loss is no longer finite, at step 7"
    ledger.record(made(1), "paper")
    assert [*ledger.read()[0].diverged][1] == ""


def test_recording_again_replaces_and_leaves_the_others_text_alone(tables):
    before = texts(tables)
    ledger.record(made(1, psnr=31.0), "paper")
    runs, scores = ledger.read()
    assert (len(runs), len(scores)) == (3, 12)
    assert {*scores[scores.run == made(1).id].psnr} == {31.0}
    for name, old in before.items():
        kept = [line for line in old.splitlines() if not line.startswith(made(1).id.encode())]
        assert tables[name].read_bytes().splitlines()[: len(kept)] == kept
    ledger.record(made(3), "paper")
    header, first, _, third = before["runs"].splitlines()
    assert tables["runs"].read_bytes().splitlines()[:3] == [header, first, third]


def test_text_of_old_rows_is_not_written_anew(tables):
    """Numbers as someone once wrote them stay, though today's code would write others."""
    path = tables["runs"]
    path.write_text(path.read_text().replace(",3.25,", ",3.250000000,"))
    old = path.read_text()
    ledger.record(made(3), "paper")
    assert path.read_text().startswith(old)


def test_tables_are_copies(tables):
    runs, scores = ledger.read()
    runs.loc[:, "seed"] = 77
    del runs["run"]
    scores["psnr"] = 0.0
    again = ledger.read()
    assert [*again[0].seed] == [0, 1, 2]
    assert {*again[1].psnr} == {30.0}


def test_a_change_within_one_tick_of_the_clock_is_seen(tables):
    path = tables["scores"]
    stamp = path.stat()
    assert {*ledger.read()[1].psnr} == {30.0}
    path.write_text(path.read_text().replace(",30,", ",31,"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    assert {*ledger.read()[1].psnr} == {31.0}


def edit(path, line, change):
    """Change one line of a file; the header is line 1."""
    lines = path.read_text().splitlines(keepends=True)
    lines[line - 1] = change(lines[line - 1])
    path.write_text("".join(lines))


WIDTH = len(ledger.COLUMNS["runs"])
FAULTS = {  # name of the table, line, its change, what is said
    "comma appended": ("runs", 2, lambda t: t[:-1] + ",\n", f"{WIDTH + 1} fields"),
    "comma appended to all": ("runs", 1, lambda t: t[:-1] + ",\n",
                              f"column {WIDTH + 1} must be None, got ''"),
    "comma appended to scores": ("scores", 5, lambda t: t[:-1] + ",\n", "10 fields instead of 9"),
    "field lost": ("runs", 3, lambda t: t.partition(",")[2], f"{WIDTH - 1} fields"),
    "columns renamed": ("scores", 1, lambda t: t.replace("psnr", "db"),
                        "column 8 must be 'psnr', got 'db'"),
    "byte order mark": ("runs", 1, lambda t: "\ufeff" + t,
                        r"column 1 must be 'run', got '\ufeffrun'"),
    "semicolons": ("scores", 1, lambda t: t.replace(",", ";"), "column 1 must be 'run', got 'run;"),
    "column moved": ("runs", 1, lambda t: t.replace("run,preset", "preset,run"),
                     "column 1 must be 'run', got 'preset'"),
    "space after a name": ("scores", 5, lambda t: t.replace("samples-test", "samples-test "),
                           "dataset has spaces around it or characters that cannot be printed, "
                           "got 'samples-test '"),
    "space before a number": ("runs", 3, lambda t: t.replace(",20,64", ", 20,64"),
                              "depth has spaces around it"),
    "NUL": ("runs", 3, lambda t: t.replace("VDSR", "VD\0SR"), r"got 'VD\x00SR'"),
    "line within a field": ("runs", 3, lambda t: t.replace("EPYC", "EP\nYC"), r"got 'AMD EP\nYC"),
    "line of another kind": ("runs", 3, lambda t: t.replace("EPYC", "EP\u2028YC"), r"EP\u2028YC"),
    "conflict": ("runs", 3, lambda t: "<<<<<<< HEAD\n" + t, "a conflict of a merge"),
    "conflict, middle": ("scores", 4, lambda t: "=======\n" + t, "a conflict of a merge"),
    "conflict, end": ("scores", 4, lambda t: ">>>>>>> a branch\n" + t, "a conflict of a merge"),
    "unclosed quote": ("runs", 4, lambda t: t.replace('threads"', "threads"), "end of data"),
    "quote inside": ("runs", 3, lambda t: t.replace(",paper", ',"pa"per'), "expected after"),
    "blank line": ("runs", 3, lambda t: "\n" + t, f"0 fields instead of {WIDTH}"),
    "row doubled": ("runs", 4, lambda t: t + t, "a second row of run "),
    "score doubled": ("scores", 7, lambda t: t + t, "a second row of "),
    "no number": ("scores", 6, lambda t: t.replace(",30,", ",high,"), "psnr must be a number"),
    "nan": ("scores", 6, lambda t: t.replace(",30,", ",nan,"), "psnr must be a number, got 'nan'"),
    "fraction": ("scores", 6, lambda t: t.replace(",6,", ",6.5,"), "step must be a whole number"),
    "half-whole": ("runs", 3, lambda t: t.replace(",80,,20,", ",80.5,,20,"),
                   "epochs must be a whole number, got '80.5'"),
    "no truth": ("runs", 2, lambda t: t.replace(",True,", ",yes,", 1), "must be True or False"),
    "cell emptied": ("runs", 4, lambda t: t.replace(",VDSR,", ",,"), "architecture is empty"),
    "number emptied": ("runs", 4, lambda t: t.replace(",0.0001,auto", ",,auto"), "theta is empty"),
    "other bytes": ("runs", 3, lambda t: t.replace("AMD", "\udce9"), "the text is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_with_file_line_and_remedy(tables, fault):
    name, line, change, message = FAULTS[fault]
    lines = tables[name].read_text().splitlines(keepends=True)
    damaged = "".join([*lines[: line - 1], change(lines[line - 1]), *lines[line:]])
    assert damaged != "".join(lines)
    tables[name].write_bytes(damaged.encode(errors="surrogateescape"))
    if fault.endswith("doubled"):
        line += 1
    refused(tables, name, line, message)


def refused(tables, name, line, message):
    """Check that nothing reads the ledger or writes to it, and what is said."""
    before = texts(tables)
    where = rf"^{re.escape(str(tables[name]))}, line {line}: "
    what = rf"{where}[^\n]*{re.escape(message)}.*\. Restore the file \(git checkout -- results\)"
    with pytest.raises(DamagedLedger, match=what):
        ledger.read()
    with pytest.raises(DamagedLedger, match=what):
        ledger.record(made(5), "paper")
    [said] = ledger.check()
    assert re.search(what, said)
    assert texts(tables) == before
    assert not ledger._path("journal").exists()


def test_scores_that_are_gone_are_missed(tables):
    edit(tables["scores"], 7, lambda t: "")
    refused(tables, "runs", 3, f"run {made(1).id} has 3 rows in scores.csv instead of 4")


def test_a_run_whose_scores_are_all_gone_is_missed(tables):
    text = tables["scores"].read_text().splitlines(keepends=True)
    tables["scores"].write_text("".join(text[:9]))
    refused(tables, "runs", 4, f"run {made(2).id} has 0 rows in scores.csv instead of 4")


def test_scores_without_their_run_are_missed(tables):
    edit(tables["runs"], 3, lambda t: "")
    refused(tables, "scores", 6, f"run {made(1).id} is not in runs.csv")


@pytest.mark.parametrize("name", ["runs", "scores"])
def test_a_file_that_was_cut_off_or_emptied(tables, name):
    whole = tables[name].read_bytes()
    last = whole.count(b"\n")
    tables[name].write_bytes(whole[:-3])
    refused(tables, name, last, "the file is cut off in this line, or empty")
    tables[name].write_bytes(b"")
    refused(tables, name, 1, "the file is cut off in this line, or empty")


def test_a_file_that_was_removed_is_missed(tables):
    tables["scores"].unlink()
    with pytest.raises(DamagedLedger, match=r"has 0 rows in scores\.csv instead of 4"):
        ledger.read()


def test_runs_of_code_without_a_name_are_not_recorded(tables):
    before, run = texts(tables), made(5)
    run.record["trouble"] = "vdsr/ has changes that are not committed; commit them"
    with pytest.raises(ValueError, match="not committed; commit them, and train it again"):
        ledger.record(run, "paper")
    assert texts(tables) == before


@pytest.mark.parametrize("fault", ["doubled", "spaces", "no commit"])
def test_what_could_not_be_read_again_is_not_written(tables, tmp_path, fault):
    before, run = texts(tables), made(3)
    if fault == "doubled":
        run.history.loc[1, "scale"] = 2.0
    else:
        run.record["commit"] = {"spaces": "  abc", "no commit": ""}[fault]
    what = "a second row" if fault == "doubled" else "commit "
    with pytest.raises(ValueError, match=f"run {run.id} cannot be recorded, since then: .*{what}"):
        ledger.record(run, "paper")
    assert texts(tables) == before
    assert not (tmp_path / "results" / ".recording.json").exists()
    assert ledger.check() == []


def test_reading_makes_no_folder_and_writing_makes_all(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path / "new" / "folder")
    assert ledger.read()[0].empty
    assert ledger.table("twins").empty
    assert not [*tmp_path.iterdir()]
    ledger.record(made(), "smoke")
    assert len(ledger.read()[0]) == 1


def test_runs_without_scores_are_not_recorded(tables):
    run = made(5)
    with pytest.raises(ValueError, match="has no scores to be recorded; give it eval_sets"):
        ledger.record(replace(run, history=run.history[:0]), "paper")


def test_a_run_is_recorded_after_the_one_that_it_went_on_from(tables):
    start, before = run_id(made(9).config), texts(tables)
    with pytest.raises(ValueError, match=f"before the one that it went on from, {start}: record"):
        ledger.record(made(0, start=start), "paper")
    assert texts(tables) == before
    ledger.record(made(9), "paper")
    ledger.record(made(0, start=start), "paper")
    assert ledger.read()[0].start.tolist() == [*[""] * 4, start]
    text = tables["runs"].read_text().replace(f",{start},", ",0123456789ab,")
    tables["runs"].write_text(text)
    refused(tables, "runs", 6, "run 0123456789ab, from which it went on, is not there")


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("writes", range(4))
@pytest.mark.parametrize("seed", [1, 3], ids=["again", "new"])
def test_a_kill_loses_and_doubles_nothing(tables, monkeypatch, seed, writes):
    """Journal, runs, scores: whichever of these was the last that the process could replace."""
    replace_file, left = os.replace, [writes]

    def dying(*paths):
        if not left[0]:
            raise Killed
        left[0] -= 1
        replace_file(*paths)

    run = made(seed, psnr=33.0)
    before = texts(tables)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dying)
        if writes < 3:
            with pytest.raises(Killed):
                ledger.record(run, "paper")
        else:
            ledger.record(run, "paper")
    runs, scores = ledger.read()
    mine = scores[scores.run == run.id]
    if writes == 0:
        assert texts(tables) == before
    else:
        assert (len(runs), len(scores)) == ((3, 12) if seed == 1 else (4, 16))
        assert [*mine.psnr] == [33.0] * 4
    assert ledger.check() == []
    ledger.record(run, "paper")
    assert (len(ledger.read()[0]), len(ledger.read()[1])) == ((3, 12) if seed == 1 else (4, 16))
    assert not [*tables["runs"].parent.glob(".*.part")]
    assert not ledger._path("journal").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "{}", '{"run": "x"}', '{"run": 5, "new": {}}',
     '{"run": "x", "new": {"runs": "a", "scores": 1}}', "\udce9"],
)  # fmt: skip
def test_a_damaged_journal_is_named_and_changes_nothing(tables, text):
    before, journal = texts(tables), ledger._path("journal")
    journal.write_bytes(text.encode(errors="surrogateescape"))
    what = rf"^{re.escape(str(journal))} is damaged .*; remove that file, and record the run again$"
    with pytest.raises(DamagedLedger, match=what):
        ledger.read()
    [said] = ledger.check()
    assert re.search(what, said)
    assert texts(tables) == before
    journal.unlink()
    assert len(ledger.read()[0]) == 3


ROWS = {
    "benchmark": "bicubic,bicubic,Set5,2,baby,37.1,0.95,3e-06,abc,2.13.0,CPU\n",
    "bench": "enlarge,1.5,1.4,1.6,5,2026-01-01,cpu,CPU,2,2,AVX2,2.13.0,float32,0.2,0,1234567890\n",
    "bench_profiles": "enlarge,ReLU,0.05\n",
    "bicubic": "Set5,2,33.66\n",
    "fields": "026b2611e873,2,before,14.5\n",
    "corrections": "026b2611e873,2,0.95\n",
    "factors": "026b2611e873,Set5,1.5,interpolation,36.79\n",
    "twins": "026b2611e873,Set5,2,31.4,1234567890,2.11.0,GPU,bf16\n",
    "border": "0,bicubic,30.1\n",
}


@pytest.mark.parametrize("name", ledger.OTHERS)
def test_other_tables_are_held_to_their_columns(tables, tmp_path, name):
    """A comma too many would make pandas take the first column for an index."""
    assert [*ledger.table(name)] == [*ledger.OTHERS[name]]
    assert ledger.table(name).empty
    path = tmp_path / "results" / f"{name}.csv"
    header = ",".join(ledger.OTHERS[name]) + "\n"
    path.write_text(header + ROWS[name])
    assert str(ledger.table(name).iloc[0, 0]) == ROWS[name].partition(",")[0]
    assert ledger.check() == []
    path.write_text(header + ROWS[name][:-1] + ",\n")
    width = len(ledger.OTHERS[name])
    with pytest.raises(DamagedLedger, match=rf"{name}\.csv, line 2: {width + 1} fields instead of"):
        ledger.table(name)
    [said] = ledger.check()
    assert f"{name}.csv, line 2: " in said


def test_a_kill_before_the_journal_goes_repeats_the_same(tables):
    run = made(3)
    ledger.record(run, "paper")
    after = texts(tables)
    runs, scores = (after[name].decode().splitlines() for name in ("runs", "scores"))
    new = {"runs": "\n".join(["header", runs[-1]]), "scores": "\n".join(["header", *scores[-4:]])}
    write_text(ledger._path("journal"), json.dumps({"run": run.id, "new": new}))
    ledger.read()
    assert texts(tables) == after


def test_processes_take_turns(tables):
    threads = [threading.Thread(target=ledger.record, args=(made(s), "paper")) for s in range(3, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs, scores = ledger.read()
    assert sorted(runs.seed) == [*range(9)]
    assert len(scores) == 36


def test_a_folder_that_cannot_be_written_can_be_read(tables, monkeypatch):
    class Refusing:
        def __init__(self, path):
            pass

        def acquire(self):
            raise PermissionError("read-only")

    monkeypatch.setattr(ledger, "FileLock", Refusing)
    assert len(ledger.read()[0]) == 3
    before = texts(tables)
    with pytest.raises(PermissionError):
        ledger.record(made(5), "paper")
    assert texts(tables) == before


def test_the_projects_ledger_is_whole(monkeypatch):
    monkeypatch.setattr(machine, "ROOT", machine.CLONE)
    assert ledger.check() == []


def test_cells():
    assert [ledger.cell(v) for v in ((2, 2.5), True, 0.1, None)] == ["2 2.5", True, 0.1, None]
