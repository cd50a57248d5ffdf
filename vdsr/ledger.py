"""The ledger: two tidy tables in ``results/``, read and rewritten only when they are whole.

The other tables there are read by the same rules.
"""

import csv
import json
from contextlib import nullcontext
from dataclasses import fields
from functools import lru_cache, partial
from io import StringIO
from itertools import zip_longest
from typing import get_args

import pandas as pd
from filelock import FileLock

from . import machine
from .config import TrainConfig
from .files import write_text

SETTINGS = [f for f in fields(TrainConfig) if not f.metadata.get("scoring")]
_TEXT, _WHOLE, _NUMBER, _TRUTH = "text", "a whole number", "a number", "True or False"


def _kind(each):
    if each.type in (int, bool, float):
        return _WHOLE if each.type is int else _NUMBER if each.type is float else _TRUTH
    return _WHOLE if int in get_args(each.type) else _TEXT


COLUMNS = {
    "runs": {
        "run": _TEXT, "preset": _TEXT, **{f.name: _kind(f) for f in SETTINGS},
        "commit": _TEXT, "torch": _TEXT, "device": _TEXT, "arithmetic": _TEXT,
        "updates": _WHOLE, "seconds": _NUMBER, "tflop": _NUMBER, "others": _NUMBER,
        "diverged": _TEXT, "scores": _WHOLE,
    },
    "scores": {
        "run": _TEXT, "step": _WHOLE, "epoch": _NUMBER, "train_loss": _NUMBER, "clipped": _NUMBER,
        "dataset": _TEXT, "scale": _NUMBER, "psnr": _NUMBER, "ssim": _NUMBER,
    },
}  # fmt: skip
# The tables beside the ledger: what was measured without training.
OTHERS = {
    "benchmark": {
        "method": _TEXT, "run": _TEXT, "dataset": _TEXT, "scale": _NUMBER, "image": _TEXT,
        "psnr": _NUMBER, "ssim": _NUMBER, "seconds": _NUMBER, "commit": _TEXT, "torch": _TEXT,
        "device": _TEXT,
    },
    "bench": {
        "row": _TEXT, "value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "rounds": _WHOLE,
        "date": _TEXT, "kind": _TEXT, "device": _TEXT, "cores": _WHOLE, "threads": _WHOLE,
        "instructions": _TEXT, "torch": _TEXT, "arithmetic": _TEXT, "product": _NUMBER,
        "others": _NUMBER, "commit": _TEXT,
    },
    "bench_profiles": {"row": _TEXT, "part": _TEXT, "share": _NUMBER},
    "bicubic": {"dataset": _TEXT, "scale": _NUMBER, "psnr": _NUMBER},
    "twins": {
        "run": _TEXT, "dataset": _TEXT, "scale": _NUMBER, "psnr": _NUMBER, "commit": _TEXT,
        "torch": _TEXT, "device": _TEXT, "arithmetic": _TEXT,
    },
    "fields": {"run": _TEXT, "scale": _NUMBER, "state": _TEXT, "side": _NUMBER},
    "corrections": {"run": _TEXT, "scale": _NUMBER, "factor": _NUMBER},
    "factors": {"run": _TEXT, "dataset": _TEXT, "scale": _NUMBER, "way": _TEXT, "psnr": _NUMBER},
    "border": {"distance": _WHOLE, "method": _TEXT, "psnr": _NUMBER},
}  # fmt: skip
# What may be empty: settings that are None, and what was not measured.
MAY_BE_EMPTY = {
    "start", "epochs", "steps", "decay_epochs", "others", "diverged", "train_loss", "clipped",
    "psnr", "ssim",
}  # fmt: skip
REMEDY = "Restore the file (git checkout -- results), or mend that line"


class DamagedLedger(ValueError):
    """A table of the ledger is not as it was written."""


def read():
    """Return what is recorded: one row a run, and its scores.

    Returns
    -------
    runs, scores : pandas.DataFrame
        Copies, which may be changed. ``results/README.md`` explains the columns.

    Raises
    ------
    DamagedLedger
        If a table is not whole; the message names file, line and remedy.
    """
    with _locked():
        texts = tuple(_text(name) for name in COLUMNS)
    return tuple(table.copy() for table in _parsed(*texts))


def record(run, preset):
    """Write a run into the ledger, in place of what it held of that run.

    Parameters
    ----------
    run : vdsr.Run
    preset : str
        The preset it belongs to.

    Raises
    ------
    ValueError
        If the run was made by code that is not committed, has no scores, went on from a run
        that is not recorded, or has a value that its tables cannot hold.
    DamagedLedger
        If the ledger is not whole. It is then left as it is.
    """
    if run.record["trouble"]:
        raise ValueError(
            f"run {run.id} cannot be recorded, since its code cannot be named: "
            f"{run.record['trouble']}, and train it again with refresh=True"
        )
    if run.history.empty:
        raise ValueError(f"run {run.id} has no scores to be recorded; give it eval_sets")
    if run.config.start not in {None, *read()[0].run}:
        raise ValueError(
            f"run {run.id} cannot be recorded before the one that it went on from, "
            f"{run.config.start}: record that first"
        )
    settings = {f.name: cell(getattr(run.config, f.name)) for f in SETTINGS}
    row = {"run": run.id, "preset": preset, **settings, **run.record, "scores": len(run.history)}
    tables = {"runs": pd.DataFrame([row]), "scores": run.history}
    with _locked(required=True):
        _parsed(*(_text(name) for name in COLUMNS))
        new = {k: _as_text(table.reindex(columns=[*COLUMNS[k]])) for k, table in tables.items()}
        try:  # what cannot be read again is not written
            _parsed(*(_replaced(name, run.id + ",", new[name].splitlines()[1:]) for name in new))
        except DamagedLedger as error:
            what = str(error).removesuffix(f". {REMEDY}")
            raise ValueError(f"run {run.id} cannot be recorded, since then: {what}") from error
        write_text(_path("journal"), json.dumps({"run": run.id, "new": new}))
        _finish()


def table(name):
    """Return another table of ``results/``, checked like those of the ledger.

    Parameters
    ----------
    name : str
        A key of `OTHERS`.

    Returns
    -------
    pandas.DataFrame
        Without rows if there is no such file.

    Raises
    ------
    DamagedLedger
        If the table is not whole; the message names file, line and remedy.
    """
    return _table(name, _text(name))


def check():
    """Return what is wrong with the tables in ``results/``, one sentence a fault."""
    faults = []
    for reader in (read, *(partial(table, name) for name in OTHERS)):
        try:
            reader()
        except DamagedLedger as error:
            faults.append(str(error))
    return faults


def cell(value):
    """Return a config's value as one cell of a table."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def extend(name, rows, key):
    """Put rows into one of the tables that `table` returns; its file appears whole.

    Parameters
    ----------
    name : str
        A key of `OTHERS`.
    rows : pandas.DataFrame
        Measured values, of which six digits are kept.
    key : list of str
        The columns of which no two rows have the same values. What another process wrote of them
        meanwhile gives way.

    Raises
    ------
    DamagedLedger
        If the table is not whole. It is then left as it is.
    """
    with _locked(required=True):
        whole = pd.concat([table(name), rows[[*OTHERS[name]]]], ignore_index=True)
        write_text(_path(name), _as_text(whole.drop_duplicates(key, keep="last")))


def _path(name):
    folder = machine.ROOT / "results"
    return folder / (".recording.json" if name == "journal" else f"{name}.csv")


def _locked(required=False):
    """Return a lock on the ledger, with what a killed process left half-done being finished.

    A folder that is not there, or cannot be written to, needs none to be read.
    """
    folder = machine.ROOT / "results"
    if not (required or folder.is_dir()):
        return nullcontext()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock").acquire()
    except OSError:
        if required:
            raise
        return nullcontext()
    try:
        if _path("journal").exists():
            _finish()
    except BaseException:
        lock.lock.release()
        raise
    return lock


def _finish():
    """Bring both tables to what the journal says; repeated after a kill, it does the same."""
    try:
        journal = json.loads(_path("journal").read_text(encoding="utf-8"))
        start = journal["run"] + ","
        rows = {name: journal["new"][name].splitlines()[1:] for name in COLUMNS}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedLedger(
            f"{_path('journal')} is damaged ({error}), and with it a run that was being recorded; "
            f"remove that file, and record the run again"
        ) from error
    for name, new in rows.items():
        write_text(_path(name), _replaced(name, start, new))
    _path("journal").unlink()


def _replaced(name, start, new):
    """Return a table's text with new lines in place of those that start as they do."""
    header, *lines = (_text(name) or _as_text(pd.DataFrame(columns=[*COLUMNS[name]]))).splitlines()
    kept = [line for line in lines if not line.startswith(start)]
    return "\n".join([header, *kept, *new]) + "\n"


def _text(name):
    path = _path(name)
    if not path.exists():
        return None
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(name, data.count(b"\n", 0, error.start) - 1, "the text is not UTF-8")


def _as_text(table):
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


@lru_cache(maxsize=2)
def _parsed(runs_text, scores_text):
    """Return both tables, checked; the cache's copies, which must not be changed."""
    runs, scores = _table("runs", runs_text), _table("scores", scores_text)
    if (doubled := runs.run[runs.run.duplicated()]).size:
        _refuse("runs", doubled.index[0], f"a second row of run {doubled.iloc[0]}")
    if (lost := runs[~runs.start.isin([*runs.run, ""])]).size:
        _refuse("runs", lost.index[0], f"run {lost.start.iloc[0]}, from which it went on, is not "
                f"there")  # fmt: skip
    key = ["run", "step", "dataset", "scale"]
    if (doubled := scores[scores.duplicated(key)]).size:
        _refuse("scores", doubled.index[0],
                f"a second row of {', '.join(map(str, doubled[key].iloc[0]))}")  # fmt: skip
    orphans = scores.run[~scores.run.isin(runs.run)]
    if orphans.size:
        _refuse("scores", orphans.index[0], f"run {orphans.iloc[0]} is not in runs.csv")
    counted = runs.run.map(scores.run.value_counts()).fillna(0).astype(int)
    if (wrong := runs[counted != runs.scores]).size:
        first = wrong.index[0]
        _refuse("runs", first, f"run {runs.run[first]} has {counted[first]} rows in scores.csv "
                f"instead of {runs.scores[first]}")  # fmt: skip
    return runs, scores


def _table(name, text):
    """Return a table of the ledger from its text, every line checked."""
    columns = (COLUMNS | OTHERS)[name]
    if text is None:
        text = ",".join(columns) + "\n"
    if not text.endswith("\n"):
        _refuse(name, text.count("\n") - 1, "the file is cut off in this line, or empty")
    rows = []
    try:
        for place, row in enumerate(csv.reader(StringIO(text, newline=""), strict=True)):
            if row and row[0].startswith(("<<<<<<<", "|||||||", "=======", ">>>>>>>")):
                _refuse(name, place - 1, "a conflict of a merge")
            if place == 0:
                for number, (wanted, got) in enumerate(zip_longest(columns, row), start=1):
                    if got != wanted:
                        _refuse(name, -1, f"column {number} must be {wanted!r}, got {got!r}")
            if len(row) != len(columns):
                _refuse(name, place - 1, f"{len(row)} fields instead of {len(columns)}")
            for column, cell in zip(columns, row, strict=True):
                if cell != cell.strip() or not cell.isprintable():
                    _refuse(name, place - 1, f"{column} has spaces around it or characters that "
                            f"cannot be printed, got {cell!r}")  # fmt: skip
            rows.append(row)
    except csv.Error as error:
        _refuse(name, len(rows) - 1, str(error))
    table = pd.DataFrame(rows[1:], columns=[*columns], dtype=str)
    for column, kind in columns.items():
        table[column] = _typed(name, table[column], kind)
    return table


def _typed(name, values, kind):
    """Return a column in its own type."""
    empty = values == ""
    if values.name not in MAY_BE_EMPTY and empty.any():
        _refuse(name, empty.idxmax(), f"{values.name} is empty")
    if kind == _TEXT:
        return values
    if kind == _TRUTH:
        typed = values.map({"True": True, "False": False})
        wrong = typed.isna()
        typed = typed.astype(bool) if not wrong.any() else typed
    else:
        typed = pd.to_numeric(values.where(~empty), errors="coerce")
        wrong = typed.isna() & ~empty
        if kind == _WHOLE:
            wrong |= (typed % 1 != 0) & ~empty
            typed = typed if empty.any() or wrong.any() else typed.astype("int64")
        else:
            typed = typed.astype("float64")
    if wrong.any():
        place = wrong.idxmax()
        _refuse(name, place, f"{values.name} must be {kind}, got {values[place]!r}")
    return typed


def _refuse(name, place, what):
    """Raise for the row of that place, of which the first stands in line 2."""
    raise DamagedLedger(f"{_path(name)}, line {place + 2}: {what}. {REMEDY}")
