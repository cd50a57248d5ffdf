import json
import os
import random
import re
import stat
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vdsr import files
from vdsr.files import DamagedFile, load_checkpoint, replacing, save_checkpoint, write_text

TENSORS = {
    "weights": torch.arange(12.0).reshape(3, 4), "step": torch.tensor(7.0),
    "order": torch.arange(5), "half": torch.ones(2, dtype=torch.bfloat16), "none": torch.zeros(0),
}  # fmt: skip
METADATA = {"run": "abc", "step": 7, "history": [{"psnr": 31.5, "name": "×2"}], "finished": False}


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "table.csv"
    write_text(path, "a\r\nθ\n")
    assert path.read_bytes() == "a\r\nθ\n".encode()
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half of")
        raise KeyboardInterrupt
    assert path.read_bytes() == "a\r\nθ\n".encode()
    assert [*path.parent.iterdir()] == [path]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \udc80")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_names_cannot_be_foreseen_and_are_the_writers_alone(tmp_path):
    """A link planted at a foreseeable name would redirect what is written."""
    seen = set()
    for _ in range(5):
        with replacing(tmp_path / "table.csv") as part:
            assert part.parent == tmp_path
            assert stat.S_IMODE(part.stat().st_mode) == 0o600
            seen.add(part.name)
    assert len(seen) == 5


def test_mode_of_a_new_file_is_the_usual_and_that_of_an_old_one_is_kept(tmp_path):
    path = tmp_path / "table.csv"
    before = os.umask(0o027)
    try:
        write_text(path, "1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_text(path, "2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_links_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target.csv", tmp_path / "link.csv"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert [*target.parent.iterdir()] == [target]


def test_what_killed_writers_left_is_cleared_a_day_later(tmp_path):
    old, new, others = (tmp_path / n for n in (".vdsr-a.part", ".vdsr-b.part", "c.part"))
    for path in (old, new, others):
        path.write_text("half")
    yesterday = time.time() - files.ABANDONED - 60
    for path in (old, others):
        os.utime(path, (yesterday, yesterday))
    write_text(tmp_path / "whole", "1")
    assert {p.name for p in tmp_path.iterdir()} == {new.name, others.name, "whole"}


def test_contents_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("contents"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("name"), replace(*paths)))
    write_text(tmp_path / "text", "1")
    save_checkpoint(tmp_path / "run", TENSORS, METADATA)
    assert done == ["contents", "name"] * 2


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    save_checkpoint(tmp_path / "run", TENSORS, METADATA)
    tensors, metadata = load_checkpoint(tmp_path / "run")
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(tensors[name], tensor)


def test_tensors_of_any_layout_are_kept(tmp_path):
    kernels = torch.rand(4, 3, 3, 3).to(memory_format=torch.channels_last)
    parameter = torch.nn.Parameter(kernels)
    save_checkpoint(tmp_path / "run", {"a": parameter, "b": kernels.mT}, {})
    tensors, _ = load_checkpoint(tmp_path / "run")
    assert torch.equal(tensors["a"], kernels)
    assert torch.equal(tensors["b"], kernels.mT)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "run", TENSORS, METADATA)
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(torch.serialization, "load", None)
    data = (tmp_path / "run").read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert (
        json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["history"]) == METADATA["history"]
    )
    load_checkpoint(tmp_path / "run")


def test_a_flipped_byte_anywhere_is_found(tmp_path):
    path = tmp_path / "run"
    save_checkpoint(path, TENSORS, METADATA)
    whole = path.read_bytes()
    content = len(whole.rstrip(b" "))
    header = 8 + int.from_bytes(whole[:8], "little")
    padding = header - len(whole[:header].rstrip(b" "))
    places = [*range(header - padding), *range(header, content)]
    rng = random.Random(0)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match=rf"{re.escape(str(path))} is damaged: "):
            load_checkpoint(path)


def test_a_file_that_ends_too_early_is_found(tmp_path):
    path = tmp_path / "run"
    save_checkpoint(path, TENSORS, METADATA)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match="is damaged"):
            load_checkpoint(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DamagedFile, match="is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"run": '"abc"'}, {"digest": "0" * 64}])
def test_foreign_safetensors_are_refused(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    save_file({"half": torch.ones(2, dtype=torch.bfloat16)}, path, metadata)
    with pytest.raises(DamagedFile, match=r"foreign\.safetensors is damaged: .* its own digest"):
        load_checkpoint(path)


def test_metadata_or_names_of_another_checkpoint_are_found(tmp_path):
    """Each is readable, only not what was written together."""
    save_checkpoint(tmp_path / "run", TENSORS, METADATA)
    with safe_open(tmp_path / "run", "pt") as file:
        text = file.metadata()
    renamed = {"weight" if k == "weights" else k: v for k, v in TENSORS.items()}
    turned = TENSORS | {"weights": TENSORS["weights"].reshape(4, 3)}
    for tensors, changed in (
        (TENSORS, text | {"step": "8"}), (TENSORS, text | {"more": "1"}), (renamed, text),
        (turned, text), (TENSORS, {k: v for k, v in text.items() if k != "finished"}),
    ):  # fmt: skip
        save_file(tensors, tmp_path / "forged", changed)
        with pytest.raises(DamagedFile, match="do not match its own digest"):
            load_checkpoint(tmp_path / "forged")
    save_file(TENSORS, tmp_path / "forged", text)  # the test itself forges well
    load_checkpoint(tmp_path / "forged")


def test_what_is_missing_or_cannot_be_opened_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        load_checkpoint(tmp_path)
