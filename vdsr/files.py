"""Files that appear whole or not at all, and checkpoints that are checked when they are read."""

import hashlib
import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from time import time

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .checks import file_path

# Seconds after its last change that an unfinished file is nobody's any more.
ABANDONED = 24 * 3600
PRETRAINED = Path(__file__).with_name("pretrained.safetensors")


class DamagedFile(ValueError):
    """A file is not what was written."""


@contextmanager
def replacing(path):
    """Give the path of a new file beside another, which it replaces at the end as a whole.

    Parameters
    ----------
    path : path-like
        Need not exist; its folder is made if it is missing. Links are followed, and the mode of
        a file that is replaced is kept.

    Yields
    ------
    pathlib.Path
        A file of a name that nobody can foresee. It is removed if the block fails.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path.parent)
    handle, part = mkstemp(dir=path.parent, prefix=".vdsr-", suffix=".part")
    os.close(handle)
    part = Path(part)
    try:
        yield part
        with part.open("rb+") as file:  # or a power cut may leave the name without the contents
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        # What open() would have left or given it.
        if path.exists():
            old = path.stat()
            with suppress(AttributeError, OSError):  # on another system, or not allowed
                os.chown(part, old.st_uid, old.st_gid)
            part.chmod(old.st_mode & 0o7777)
        else:
            part.chmod(0o666 & ~mask)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def writable(target, name="target"):
    """Return the file that is to be written or replaced, before the work.

    Parameters
    ----------
    target : path-like
        Its folder must be there.
    name : str
        Of the argument, for the error.

    Raises
    ------
    TypeError
        If `target` is no path.
    OSError
        If the file cannot be written, or names a folder.
    """
    path = Path(os.path.realpath(file_path(name, target)))
    if path.is_dir() or str(target).endswith((os.sep, "/")):
        raise IsADirectoryError(f"{str(target)!r} is a folder; name the file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    if path.exists() and not path.is_file():
        raise OSError(f"{target} is no file, and is not replaced by one")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{target} is write-protected")
    try:
        handle, part = mkstemp(dir=path.parent, prefix=".vdsr-", suffix=".part")
    except OSError as error:
        raise type(error)(f"{target} cannot be written: {error.strerror}") from error
    os.close(handle)
    os.unlink(part)
    return path


def _clear(folder):
    """Remove what writers that were killed have left in a folder, once nobody can be at it."""
    for part in folder.glob(".vdsr-*.part"):
        with suppress(OSError):  # another one clears, too
            if time() - part.stat().st_mtime > ABANDONED:
                part.unlink()


def write_text(path, text):
    """Write a text file that appears whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def save_checkpoint(path, tensors, metadata):
    """Write tensors and metadata to a safetensors file, with a digest of both.

    Parameters
    ----------
    path : path-like
    tensors : dict of str to Tensor
    metadata : dict
        Of what JSON can hold.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    text = {k: json.dumps(v) for k, v in metadata.items()}
    text["digest"] = _digest(tensors, text)
    with replacing(path) as part:
        save_file(tensors, part, text)


def load_checkpoint(path):
    """Return what `save_checkpoint` wrote; nothing is unpickled.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    tensors : dict of str to Tensor
    metadata : dict

    Raises
    ------
    OSError
        If there is no such file, or it cannot be opened.
    DamagedFile
        If it is not what was written.
    """
    with open(path, "rb"):  # what cannot be opened is not damaged
        pass
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = file.metadata() or {}
        if text.pop("digest", None) != _digest(tensors, text):
            raise ValueError("its contents do not match its own digest")
        return tensors, {k: json.loads(v) for k, v in text.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error


def _digest(tensors, text):
    """Return a SHA-256 over tensors, their names, types and shapes, and the metadata."""
    digest = hashlib.sha256(json.dumps(sorted(text.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
