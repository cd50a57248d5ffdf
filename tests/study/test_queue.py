"""Working through missing runs: what is asked, what is left, what one process leaves to another."""

import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from time import monotonic

import pandas as pd
import pytest
import torch
from filelock import FileLock

import vdsr
from vdsr import ledger, machine, runs
from vdsr.config import run_id
from vdsr.files import DamagedFile
from vdsr.study import configs, cost, queue, table3
from vdsr.study.evidence import Study
from vdsr.study.studies import STUDIES
from vdsr.train import OutOfTime, Trainer


@pytest.fixture
def studies(elsewhere, monkeypatch, tiny):
    """Replace the studies; a function that lists the configs of one. Speed is not measured."""
    monkeypatch.setattr(cost, "rate", lambda: 1.0)
    for name in reversed([*STUDIES]):  # whose order is as it was when they are put back
        monkeypatch.delitem(STUDIES, name)

    def put(name, *listed):
        study = Study(name, "Why?", lambda preset: [*listed], lambda e: [])
        monkeypatch.setitem(STUDIES, name, study)

    put("one", tiny, replace(tiny, depth=2))
    put("two", tiny)
    return put


# What is asked


def test_a_shared_run_is_scored_on_all_that_any_study_asks(studies, tiny):
    base = replace(tiny, epochs=20, decay_epochs=20)
    studies("one", replace(base, eval_sets=("Set5",), eval_scales=(2, 3), eval_epochs=10))
    studies("two", replace(base, eval_sets=("BSD10", "Set5"), eval_scales=(2, 2.5), eval_epochs=4,
                           eval_steps=(7, 3)))  # fmt: skip
    studies("three", replace(base, eval_sets=(), eval_scales=(), eval_epochs=0, eval_steps=(5,)))
    [asked] = queue.asked(["one"], "smoke").values()
    assert asked.eval_sets == ("Set5", "BSD10")
    assert asked.eval_scales == (2, 2.5, 3)
    assert asked.eval_steps == (3, 5, 7)
    ours = {*asked.eval_steps_in(6)}
    for study in STUDIES.values():
        [config] = study.runs("smoke")
        assert ours >= {*config.eval_steps_in(6)}
    assert replace(asked, eval_sets=(), eval_scales=(), eval_epochs=0, eval_steps=()) == replace(
        base, eval_sets=(), eval_scales=(), eval_epochs=0, eval_steps=()
    )


def test_further_seeds_are_scored_as_the_first(studies, tiny):
    studies("one", replace(tiny, eval_scales=(2, 3)))
    studies("two", replace(tiny, eval_scales=(2, 2.5)))
    asked = [*queue.asked(["two"], "smoke", seeds=3).values()]
    assert [(c.seed, c.eval_scales) for c in asked] == [(s, (2, 2.5, 3)) for s in range(3)]


def test_what_never_is_scored_on_the_way_stays_so(studies, tiny):
    studies("one", replace(tiny, eval_epochs=0))
    studies("two", replace(tiny, eval_epochs=0))
    [asked] = queue.asked(["one"], "smoke").values()
    assert asked.eval_epochs == 0


def test_one_seed_of_every_study_comes_first(studies, tiny):
    other = replace(tiny, depth=2)
    studies("one", tiny, replace(tiny, seed=1))  # which it names itself
    studies("two", other)
    asked = [*queue.asked(["one", "two"], "smoke", seeds=3).values()]
    assert [(c.depth, c.seed) for c in asked] == [
        (3, 0), (3, 1), (2, 0), (2, 1), (3, 2), (2, 2)
    ]  # fmt: skip


def test_studies_are_worked_through_in_the_order_that_is_given(studies, tiny):
    studies("three", replace(tiny, depth=4))
    assert [c.depth for c in queue.asked(["three", "one"], "smoke").values()] == [4, 3, 2]


def test_table_3s_networks_are_asked_for():
    assert STUDIES["benchmark"].measure is table3.complete
    asked = queue.asked(["benchmark"], "paper")
    assert {run_id(c) for c in table3.trained("paper")} == {*asked}
    assert {c.architecture for c in asked.values()} == {"VDSR", "SRCNN 9-1-5"}


@pytest.mark.parametrize("preset", configs.PRESETS)
def test_every_run_is_scored_on_all_that_any_study_asks(preset):
    asked = queue.asked(STUDIES, preset, seeds=2)
    for study in STUDIES.values():
        for config in study.runs(preset):
            ours = asked[run_id(config)]
            assert {*ours.scored} >= {*config.scored}
            assert {*ours.eval_steps_in(41)} >= {*config.eval_steps_in(41)}


# Working through it


def test_what_is_missing_is_recorded_once(studies, elsewhere, capsys):
    assert queue.run(["one", "two"], "smoke") == 0
    assert [c.depth for c in elsewhere] == [3, 2]
    assert [*ledger.read()[0].depth] == [3, 2]
    assert {*ledger.read()[0].preset} == {"smoke"}
    assert "0 runs recorded, 2 missing" in capsys.readouterr().out
    assert queue.run(["one", "two"], "smoke") == 0
    assert len(elsewhere) == 2
    assert "2 runs recorded, 0 missing" in capsys.readouterr().out


def test_each_run_says_what_it_came_to(studies, capsys):
    queue.run(["one"], "smoke")
    *_, first, second = capsys.readouterr().out.splitlines()
    psnr = ledger.read()[1].psnr
    assert re.search(rf"depth 3, .*: samples-test ×2 {psnr[0]:.2f} dB; 1 missing; \d", first)
    assert re.search(rf"depth 2, .*: samples-test ×2 {psnr[1]:.2f} dB; 0 missing$", second)


def test_a_wider_question_scores_what_is_recorded_and_trains_nothing(studies, elsewhere, tiny):
    queue.run(["two"], "smoke")
    studies("three", replace(tiny, eval_scales=(2, 3)))
    assert len(queue.missing(queue.asked(["two"], "smoke"))) == 1
    assert queue.run(["two"], "smoke") == 0
    assert len(elsewhere) == 1
    assert [*ledger.read()[1].scale] == [2, 3]
    assert not queue.missing(queue.asked(["two", "three"], "smoke"))


def test_what_cannot_be_scored_here_is_not_missing(studies, elsewhere, tiny):
    """Its weights are on another machine; to train it again would be a waste."""
    queue.run(["two"], "smoke")
    runs.checkpoint(run_id(tiny)).unlink()
    studies("two", replace(tiny, eval_scales=(2, 3)))
    assert queue.run(["two"], "smoke") == 0
    assert len(elsewhere) == 1


def test_it_stops_in_time_and_goes_on(studies, elsewhere, capsys):
    assert queue.run(["one"], "smoke", hours=0) == 1
    assert "stopped at step 1 of 6; the same command goes on" in capsys.readouterr().out
    assert ledger.read()[0].empty
    assert queue.run(["one"], "smoke") == 0
    assert len(ledger.read()[0]) == 2


def test_uncommitted_code_is_refused_before_it_trains(studies, elsewhere, monkeypatch, capsys):
    monkeypatch.setattr(machine, "commit", lambda: ("abc", "vdsr/ has changes; commit them"))
    assert queue.run(["one"], "smoke") == 1
    assert "No result could be recorded: vdsr/ has changes" in capsys.readouterr().err
    assert not elsewhere


def test_what_another_process_trains_is_left_alone(studies, elsewhere, tiny, capsys):
    path = runs.checkpoint(run_id(tiny)).with_suffix(".lock")
    path.parent.mkdir()
    with FileLock(path):
        assert queue.run(["one", "two"], "smoke") == 1
    assert [c.depth for c in elsewhere] == [2]
    assert "left to other processes: 1" in capsys.readouterr().out
    assert queue.run(["one", "two"], "smoke") == 0


def test_a_run_waits_for_the_one_that_it_goes_on_from(studies, elsewhere, tiny, capsys):
    following = replace(tiny, start=run_id(tiny))
    studies("one", following, replace(tiny, depth=2))
    assert queue.run(["one"], "smoke") == 1
    assert [c.depth for c in elsewhere] == [2]
    printed = capsys.readouterr().out
    assert f"run {run_id(tiny)}, from which {run_id(following)} is to go on" in printed
    assert "other processes" not in printed
    studies("one", tiny, following)
    assert queue.run(["one"], "smoke") == 0
    assert ledger.read()[0].start.tolist() == ["", "", run_id(tiny)]


def test_a_run_from_another_has_no_further_seeds(studies, tiny):
    """They would share its first weights, and say too little about chance."""
    following = replace(tiny, start=run_id(tiny))
    studies("one", tiny, following)
    asked = queue.asked(["one"], "smoke", seeds=3).values()
    assert [(c.seed, c.start) for c in asked] == [
        (0, None), (0, run_id(tiny)), (1, None), (2, None)
    ]  # fmt: skip


def test_a_first_half_has_no_further_seeds(studies, tiny):
    """A training at a rate that is not lowered has them, if no other goes on from it."""
    constant = replace(tiny, schedule="constant", decay_epochs=None)
    half, alone = (replace(constant, depth=depth) for depth in (3, 4))
    studies("one", half, replace(tiny, start=run_id(half)), alone)
    asked = queue.asked(["one"], "smoke", seeds=2).values()
    assert [(c.seed, c.depth, c.start) for c in asked] == [
        (0, 3, None), (0, 3, run_id(half)), (0, 4, None), (1, 4, None)
    ]  # fmt: skip


@pytest.mark.parametrize("known", ["nothing", "the start", "its record alone", "half a start"])
def test_workers_are_given_what_a_run_goes_on_from(
    studies, elsewhere, tiny, tmp_path, monkeypatch, capsys, known
):
    following = replace(tiny, start=run_id(tiny))
    last = replace(following, start=run_id(following))
    studies("one", tiny, following, last)
    if known != "nothing":
        ledger.record(runs.attempt(tiny), "smoke")
    if known == "its record alone":
        runs.checkpoint(run_id(tiny)).unlink()
    executor = Elsewhere(monkeypatch, tmp_path / "far")
    if known == "half a start":  # which the worker once began, and would never end
        with monkeypatch.context() as there, pytest.raises(OutOfTime):
            there.setenv("VDSR_RUNS_DIR", str(tmp_path / "far"))
            runs.train(tiny, deadline=0.0, refresh=True)
    if known == "its record alone":
        assert queue.run(["one"], "smoke", executor=executor) == 1
        assert "train it first, with refresh=True if it is recorded" in capsys.readouterr().out
        return
    assert queue.run(["one"], "smoke", executor=executor) == 0
    here = runs.train(replace(last, eval_sets=())).model.state_dict()
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "again"))
    again = [runs.train(config, refresh=True) for config in (tiny, following, last)][-1]
    assert all(torch.equal(v, here[k]) for k, v in again.model.state_dict().items())


def test_what_another_process_recorded_meanwhile_is_not_trained(
    studies, elsewhere, monkeypatch, tiny
):
    attempt, tried = runs.attempt, []

    def beside(config, **options):
        tried.append(config)
        ledger.record(attempt(replace(tiny, depth=2)), "smoke")
        return attempt(config, **options)

    monkeypatch.setattr(runs, "attempt", beside)
    assert queue.run(["one"], "smoke") == 0
    assert tried == [tiny]
    assert sorted(c.depth for c in elsewhere) == [2, 3]
    assert len(ledger.read()[0]) == 2


def test_a_run_that_diverges_is_a_result(studies, elsewhere, tiny, capsys):
    wild = replace(tiny, clipping="none", learning_rate=1e30)
    studies("one", wild, tiny)
    assert queue.run(["one"], "smoke") == 0
    assert "no longer finite at step" in capsys.readouterr().out
    table, scores = ledger.read()
    assert table.diverged[0].startswith("the loss or the weights")
    assert table.diverged[1] == ""
    assert pd.isna(scores.psnr[0])
    assert scores.step[0] == 6  # where the run should have ended
    assert queue.run(["one"], "smoke") == 0
    assert len(elsewhere) == 2


def test_a_diverged_run_is_not_missing_for_want_of_scores(studies, elsewhere, tiny, monkeypatch):
    """Its last good state is here, but it is not the run's end."""
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    wild = replace(tiny, clipping="none", learning_rate=1e3)
    studies("one", wild)
    queue.run(["one"], "smoke")
    assert runs.checkpoint(run_id(wild)).exists()
    studies("one", replace(wild, eval_scales=(2, 3)))
    assert not queue.missing(queue.asked(["one"], "smoke"))


@pytest.mark.parametrize("diverges", [False, True])
def test_what_uncommitted_code_made_is_trained_again(
    studies, elsewhere, monkeypatch, tiny, diverges
):
    config = replace(tiny, clipping="none", learning_rate=1e30) if diverges else tiny
    studies("one", config)
    monkeypatch.setattr(machine, "commit", lambda: ("abc", "vdsr/ has changes"))
    runs.attempt(config)
    monkeypatch.setattr(machine, "commit", lambda: ("def", ""))
    assert queue.run(["one"], "smoke") == 0
    assert len(elsewhere) == 2
    assert [*ledger.read()[0].commit] == ["def"]


def test_a_damaged_checkpoint_does_not_block_the_queue(studies, elsewhere, tiny, capsys):
    path = runs.checkpoint(run_id(tiny))
    path.parent.mkdir()
    path.write_bytes(b"no checkpoint")
    path.with_suffix(".diverged").write_bytes(b"nor this")
    assert queue.run(["one"], "smoke") == 0
    assert len(ledger.read()[0]) == 2
    assert path.with_name(path.name + ".damaged").read_bytes() == b"no checkpoint"
    assert capsys.readouterr().err.count("the run does without it") == 2


def test_a_damaged_checkpoint_of_a_recorded_run_trains_nothing(studies, elsewhere, tiny):
    queue.run(["two"], "smoke")
    runs.checkpoint(run_id(tiny)).write_bytes(b"no checkpoint")
    studies("two", replace(tiny, eval_scales=(2, 3)))
    assert queue.run(["two"], "smoke") == 0
    assert len(elsewhere) == 1
    assert len(ledger.read()[0]) == 1


def test_table_3_is_measured_after_its_networks(studies, monkeypatch):
    calls, complete = [], [True, False, True]

    def measure(*given):
        calls.append((len(ledger.read()[0]), *given))
        return complete.pop(0)

    studies("table", *configs.benchmark("smoke"))
    monkeypatch.setitem(STUDIES, "table", replace(STUDIES["table"], measure=measure))
    assert queue.run(["table"], "smoke") == 0
    assert calls == [(2, "smoke", None)]
    assert queue.run(["one"], "smoke") == 0
    assert len(calls) == 1
    assert queue.run(["table"], "smoke", hours=0) == 1  # scores are missing, and time is up
    assert calls[1][2] <= monotonic()
    assert queue.run(["table"], "smoke", hours=0) == 0


# On other machines


class Elsewhere:
    """An executor whose machine has a folder of checkpoints, and a commit, of its own.

    Each task is done at once; what it answers is changed on its way, if that is asked for.
    """

    def __init__(self, monkeypatch, folder, commit=("abc", ""), change=lambda answer: answer):
        self.monkeypatch, self.folder = monkeypatch, folder
        self.commit, self.change = commit, change
        self.asked = []

    def submit(self, function, *arguments):
        self.asked.append(arguments[0])
        future = Future()
        with self.monkeypatch.context() as there:
            there.setenv("VDSR_RUNS_DIR", str(self.folder))
            there.setattr(machine, "commit", lambda: self.commit)
            there.setattr(ledger, "read", lambda: pytest.fail("a worker looked at a ledger"))
            try:
                future.set_result(self.change(function(*arguments)))
            except Exception as error:
                future.set_exception(error)
        return future


def test_an_executor_records_what_one_process_does(studies, elsewhere, tiny, tmp_path, monkeypatch):
    wild = replace(tiny, clipping="none", learning_rate=1e30)
    studies("one", tiny, wild, replace(tiny, depth=2))
    tables = []
    for executor in (None, ThreadPoolExecutor(2), Elsewhere(monkeypatch, tmp_path / "far")):
        monkeypatch.setattr(machine, "ROOT", tmp_path / str(len(tables)))
        machine.ROOT.mkdir()
        assert queue.run(["one"], "smoke", executor=executor) == 0
        both = [table.sort_values("run", kind="stable") for table in ledger.read()]
        tables.append([both[0].drop(columns=["seconds", "others"]).to_csv(index=False),
                       both[1].to_csv(index=False)])  # fmt: skip
        assert runs.recorded(tiny).model  # its weights are here
    assert tables[1] == tables[0]
    assert tables[2] == tables[0]
    assert len(elsewhere) == 9


def flipped(answer):
    suffix, data = answer
    return suffix, data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flipped, "do not match its own digest"),
        (lambda answer: (answer[0], answer[1][:100]), "is damaged"),
    ],
)
def test_what_comes_home_damaged_is_not_recorded(
    studies, tiny, tmp_path, monkeypatch, capsys, damage, message
):
    executor = Elsewhere(monkeypatch, tmp_path / "far", change=damage)
    assert queue.run(["two"], "smoke", executor=executor) == 1
    assert message in capsys.readouterr().err
    assert ledger.read()[0].empty
    assert not runs.checkpoint(run_id(tiny)).exists()
    executor.change = lambda answer: answer
    assert queue.run(["two"], "smoke", executor=executor) == 0
    assert len(ledger.read()[0]) == 1


def test_only_the_end_of_the_run_that_was_asked_for_is_taken(studies, tiny, tmp_path, monkeypatch):
    other = replace(tiny, depth=2)
    monkeypatch.setenv("VDSR_RUNS_DIR", str(tmp_path / "far"))
    answer = runs.serve(other, run_id(other))
    monkeypatch.setattr(Trainer, "save_seconds", 0)
    with pytest.raises(OutOfTime):
        runs.attempt(tiny, deadline=0)
    begun = runs.checkpoint(run_id(tiny)).read_bytes()
    monkeypatch.delenv("VDSR_RUNS_DIR")
    for suffix, data in (answer, (".safetensors", begun)):
        with pytest.raises(DamagedFile, match=f"is not the end of run {run_id(tiny)}"):
            runs.receive(tiny, run_id(tiny), suffix, data)
    assert not runs.checkpoint(run_id(tiny)).exists()


def test_a_run_that_fails_here_stops_no_other(studies, tiny, monkeypatch, capsys):
    attempt = runs.attempt

    def fail(config, **options):
        if run_id(config) == run_id(tiny):
            raise MemoryError("no room")
        return attempt(config, **options)

    monkeypatch.setattr(runs, "attempt", fail)
    assert queue.run(["one"], "smoke") == 1
    assert f"{run_id(tiny)} {tiny.label} failed: no room" in capsys.readouterr().err
    assert [*ledger.read()[0].depth] == [2]


def test_what_can_be_measured_is_measured_beside_a_run_that_fails(studies, tiny, monkeypatch):
    measured = []
    monkeypatch.setitem(STUDIES, "table", replace(
        STUDIES["one"], name="table", runs=lambda preset: [replace(tiny, depth=2)],
        measure=lambda *given: measured.append(given) or True,
    ))  # fmt: skip
    attempt = runs.attempt
    broken = run_id(tiny)

    def fail(config, **options):
        if run_id(config) == broken:
            raise MemoryError("no room")
        return attempt(config, **options)

    monkeypatch.setattr(runs, "attempt", fail)
    assert queue.run(["one", "table"], "smoke") == 1
    assert measured == [("smoke", None)]
    broken = run_id(replace(tiny, depth=2))
    studies("two", replace(tiny, depth=4))
    (machine.ROOT / "results" / "runs.csv").unlink()
    (machine.ROOT / "results" / "scores.csv").unlink()
    assert queue.run(["two", "table"], "smoke") == 1
    assert len(measured) == 1


def test_a_run_that_fails_stops_no_other(studies, tiny, tmp_path, monkeypatch, capsys):
    attempts = []

    def once(answer):
        attempts.append(answer)
        if len(attempts) == 1:
            raise MemoryError("no room")
        return answer

    executor = Elsewhere(monkeypatch, tmp_path / "far", change=once)
    assert queue.run(["one"], "smoke", executor=executor) == 1
    assert f"{run_id(tiny)} {tiny.label} failed: no room" in capsys.readouterr().err
    assert [*ledger.read()[0].depth] == [2]


@pytest.mark.parametrize("far", [True, False])
def test_a_run_that_cannot_be_recorded_stops_no_other(
    studies, tiny, tmp_path, monkeypatch, capsys, far
):
    record = ledger.record

    def refusing(run, preset):
        if run.id == run_id(tiny):
            raise ValueError(f"run {run.id} cannot be recorded, since then: commit is empty")
        record(run, preset)

    monkeypatch.setattr(ledger, "record", refusing)
    executor = Elsewhere(monkeypatch, tmp_path / "far") if far else None
    assert queue.run(["one"], "smoke", executor=executor) == 1
    assert f"run {run_id(tiny)} cannot be recorded" in capsys.readouterr().err
    assert [*ledger.read()[0].depth] == [2]


def test_a_damaged_ledger_stops_the_queue(studies, tiny, monkeypatch):
    def refusing(run, preset):
        raise ledger.DamagedLedger("runs.csv, line 3: a conflict of a merge")

    monkeypatch.setattr(ledger, "record", refusing)
    with pytest.raises(ledger.DamagedLedger, match="line 3"):
        queue.run(["one"], "smoke")


def test_what_comes_home_is_the_run_that_was_sent(studies, tiny, tmp_path, folder, monkeypatch):
    """Even if the folder of its images has others by then."""
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    config = replace(tiny, train_set=str(own), batch_size=4)
    studies("one", config)
    asked = run_id(config)

    def late(answer):
        shutil.copy(own / "astronaut.png", own / "another.png")
        return answer

    queue.run(["one"], "smoke", executor=Elsewhere(monkeypatch, tmp_path / "far", change=late))
    assert run_id(config) != asked
    assert [*ledger.read()[0].run] == [asked]
    assert runs.checkpoint(asked).exists()


def test_a_cluster_that_ends_is_named(studies, tiny, capsys):
    class Gone:
        def submit(self, *arguments):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    assert queue.run(["two"], "smoke", executor=Gone()) == 1
    assert "failed: its workers' scheduler has ended" in capsys.readouterr().err


def test_workers_whose_code_cannot_be_named_train_nothing(
    studies, elsewhere, tmp_path, monkeypatch, capsys
):
    executor = Elsewhere(monkeypatch, tmp_path / "far", commit=("unknown", "git is missing"))
    assert queue.run(["one"], "smoke", executor=executor) == 1
    assert "could be recorded: git is missing" in capsys.readouterr().err
    assert not elsewhere


def test_workers_with_other_images_train_nothing(elsewhere, tiny):
    with pytest.raises(ValueError, match=f"run 0123 is {run_id(tiny)} on .*images samples-test or"):
        runs.serve(tiny, "0123")
    assert not elsewhere


def test_workers_stop_in_time_and_go_on(studies, elsewhere, tmp_path, monkeypatch, capsys):
    executor = Elsewhere(monkeypatch, tmp_path / "far")
    with monkeypatch.context() as slow:  # there is time left when it begins, and none after a step
        slow.setattr(runs, "time", lambda: 0.0)
        slow.setattr(runs, "monotonic", lambda: -1e12)
        assert queue.run(["two"], "smoke", hours=1, executor=executor) == 1
    assert "stopped at step 1 of 6; the same command goes on" in capsys.readouterr().out
    assert queue.run(["two"], "smoke", hours=1, executor=executor) == 0
    assert len(elsewhere) == 2


def test_a_worker_that_comes_too_late_begins_nothing(elsewhere, tiny):
    with pytest.raises(OutOfTime, match="not begun"):
        runs.serve(tiny, run_id(tiny), until=0.0)
    assert not elsewhere


def test_what_another_process_trains_is_left_alone_elsewhere(
    studies, elsewhere, tiny, tmp_path, monkeypatch, capsys
):
    (tmp_path / "far").mkdir()
    executor = Elsewhere(monkeypatch, tmp_path / "far")
    with FileLock(tmp_path / "far" / f"{run_id(tiny)}.lock"):
        assert queue.run(["one"], "smoke", executor=executor) == 1
    assert "left to other processes: 1" in capsys.readouterr().out
    assert [c.depth for c in elsewhere] == [2]


def test_what_has_ended_here_needs_no_worker(studies, elsewhere, tiny, tmp_path, monkeypatch):
    """Whether it is not recorded yet, or lacks scores."""
    executor = Elsewhere(monkeypatch, tmp_path / "far")
    runs.attempt(tiny)
    assert queue.run(["two"], "smoke", executor=executor) == 0
    studies("three", replace(tiny, eval_scales=(2, 3)))
    assert queue.run(["two"], "smoke", executor=executor) == 0
    assert [*ledger.read()[1].scale] == [2, 3]
    assert not executor.asked
    assert len(elsewhere) == 1


def test_what_uncommitted_code_made_here_is_trained_there(
    studies, elsewhere, tiny, tmp_path, monkeypatch
):
    wild = replace(tiny, clipping="none", learning_rate=1e30)
    studies("one", wild)
    monkeypatch.setattr(machine, "commit", lambda: ("abc", "vdsr/ has changes"))
    runs.attempt(wild)
    monkeypatch.setattr(machine, "commit", lambda: ("def", ""))
    executor = Elsewhere(monkeypatch, tmp_path / "far")
    assert queue.run(["one"], "smoke", executor=executor) == 0
    assert executor.asked
    assert not runs.in_trouble(wild)


def test_an_earlier_divergence_does_not_outlive_a_run_that_comes_home(
    elsewhere, tiny, tmp_path, monkeypatch
):
    stale = runs.checkpoint(run_id(tiny)).with_suffix(".diverged")
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier training")
    with monkeypatch.context() as there:
        there.setenv("VDSR_RUNS_DIR", str(tmp_path / "far"))
        answer = runs.serve(tiny, run_id(tiny))
    assert not runs.receive(tiny, run_id(tiny), *answer).diverged
    assert not stale.exists()


def test_overview_counts_each_study_and_shared_runs_once(studies, tiny, monkeypatch):
    for module in (cost, queue):
        monkeypatch.setattr(module, "work", lambda config: 1000.0)
    monkeypatch.setattr(cost, "rate", lambda: 1.0)
    ledger.record(vdsr.train(replace(tiny, depth=2)), "smoke")
    head, one, two, total = queue.overview(["one", "two"], "smoke").splitlines()
    assert head.split() == ["study", "recorded", "missing", "TFLOP"]
    assert one.split() == ["one", "1", "1", "1,000"]
    assert two.split() == ["two", "0", "1", "1,000"]
    assert "1 missing, 1,000 TFLOP, about 0.3 hours" in total
    ledger.record(vdsr.train(tiny), "smoke")
    assert queue.overview(["one", "two"], "smoke").endswith("0 missing.")
