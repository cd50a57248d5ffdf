"""The public image sets, downloaded once and checked, and the luminance the paper works on."""

import hashlib
import os
import re
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from . import folders
from .checks import shown

with warnings.catch_warnings():  # importing vdsr is silent; in a notebook pooch would not be
    warnings.filterwarnings("ignore", "IProgress not found")
    import pooch

import skimage.color
import skimage.data

# Pictures inside scikit-image's own package: no download, for quick trials and tests.
SAMPLES = {
    "samples-train": (
        "brick", "camera", "coffee", "grass", "gravel", "hubble_deep_field", "rocket",
        "stereo_motorcycle",
    ),
    "samples-test": ("astronaut", "chelsea"),
}  # fmt: skip


def dataset_names():
    """Return the names of the image sets that `load_images` knows."""
    return [*_files(), *SAMPLES]


def load_images(dataset):
    """Load an image set, downloading what is not yet in the cache folder, or your own images.

    The cache is pooch's folder, or the one that the environment variable
    ``VDSR_DATA_DIR`` names. Every downloaded file's SHA-256 is checked.

    Parameters
    ----------
    dataset : str, path-like, mapping of str to image, or list of images
        ``"T91"``, ``"BSD200"``, ``"Set5"``, ``"Set14"``, ``"B100"`` or ``"Urban100"``;
        ``"BSD10"``, every 20th image of BSD200, for validation, and ``"BSD190"``, the others;
        ``"samples-train"`` or ``"samples-test"``, the pictures inside scikit-image.
        Or the path of a folder of your own: its pictures are its files with a suffix in
        `vdsr.folders.SUFFIXES`, sorted by name, but for hidden ones. A folder that has the
        name of an image set is ``"./Set5"``, or a `pathlib.Path`.
        A ``+`` joins what is named: ``"T91+BSD200"``, ``"T91+path/to/folder"``.
        Or images of uint8, (H, W) or (H, W, 3), by name or in a list, which names them by
        their place, ``"0"``, ``"1"`` and so on. A Pillow image is taken as its file would be.

    Returns
    -------
    dict of str to ndarray of uint8
        Image name, a file's without its suffix, to pixels, (H, W) for grey images and
        (H, W, 3) for RGB.

    Raises
    ------
    TypeError
        If `dataset` is something else, or holds something that is no array.
    ValueError
        For an unknown name, a folder without pictures, two images of one name, or an image
        that is not 8-bit grey or RGB, has transparency or several frames.
    OSError
        If a file cannot be read, or neither found nor downloaded, or is not what it should
        be, or if there is no such folder.
    """
    if isinstance(dataset, (str, os.PathLike)):
        images = {}
        for part in _parts(dataset):
            more = _load(part)
            if both := images.keys() & more:
                raise ValueError(
                    f"dataset must hold each image name once, got {min(both)!r} twice in "
                    f"{shown(dataset)}; rename one of the two"
                )
            images |= more
        return images
    if not isinstance(dataset, (Mapping, list, tuple)):
        raise TypeError(
            f"dataset must be an image set's name, a folder's path, or images as a list of arrays "
            f"or as {{name: array}}, got {shown(dataset)}"
        )
    if len(dataset) == 0:
        raise ValueError(f"dataset must hold an image, got {shown(dataset)}")
    if not isinstance(dataset, Mapping):
        dataset = {str(i): image for i, image in enumerate(dataset)}
    return {name: _pixels(f"image {name!r}", image) for name, image in dataset.items()}


def dataset_name(dataset):
    """Return a text that stands for an image set or a folder, for a config or a table.

    `load_images` and `data_hash` understand it.

    Parameters
    ----------
    dataset : str or path-like
        As for `load_images`. A path is a folder's, even if an image set has its name.
    """
    if isinstance(dataset, str):
        return dataset
    name = os.fspath(dataset)
    return os.path.join(os.curdir, name) if _known(name.split("+")) else name


def without_places(dataset):
    """Return what `dataset_name` does, with ``"./"`` in the place of each folder."""
    return "+".join("./" if isinstance(part, Path) else part for part in _parts(dataset))


def fetch(paths):
    """Return local paths of registered files, downloading those that are missing.

    Parameters
    ----------
    paths : sequence of str
        Names in the registry, such as ``"weights/VDSR_Official.mat"``.

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    ValueError
        If a name is not in the registry.
    OSError
        If a file can be neither found nor downloaded, or is not what it should be.
    """
    table = _registry()
    for path in paths:
        if path not in table.index:
            raise ValueError(
                f"paths must be a list of names in vdsr/registry.csv, such as "
                f"'weights/VDSR_Official.mat', got {shown(path)} in it"
            )
    store = pooch.create(
        path=os.environ.get("VDSR_DATA_DIR") or pooch.os_cache("vdsr"),
        base_url="",
        registry=table.sha256.to_dict(),
        urls=table.url.to_dict(),
    )

    def lacks(path):
        local = store.abspath / path
        return not local.exists() or pooch.file_hash(local) != table.sha256[path]

    def get(path):
        try:
            store.fetch(path, downloader=pooch.HTTPDownloader(timeout=60))
        except (OSError, ValueError) as error:  # ValueError: pooch's word for a wrong hash
            raise OSError(
                f"cannot get {path} from {table.url[path]}: {error}. Nothing was kept. Try again "
                f"with a network, or put the file into {store.abspath} or into a folder "
                f"that VDSR_DATA_DIR names"
            ) from error
        progress.update()

    with ThreadPoolExecutor(8) as pool:
        missing = [p for p, lack in zip(paths, pool.map(lacks, paths), strict=True) if lack]
    if missing:
        pooch.get_logger().setLevel("WARNING")  # the progress bar says what pooch would
        progress = tqdm(total=len(missing), desc="Downloading", unit="file", disable=None)
        folders_of = {(store.abspath / path).parent for path in missing}
        with _alone(store.abspath, folders_of), progress, ThreadPoolExecutor(8) as pool:
            list(pool.map(get, missing))
    return [store.abspath / path for path in paths]


@contextmanager
def _alone(cache, parents):
    """Keep other processes from downloading meanwhile, and clear what killed ones have left.

    Their unfinished files have the names of temporary ones. Nothing reads those, but they
    would stay for ever; while nobody else is at work, they can go.
    """
    try:
        for parent in parents:
            parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(cache / ".lock").acquire()
    except OSError as error:
        raise OSError(
            f"cannot write to {cache}: {error}; let VDSR_DATA_DIR name a folder of yours"
        ) from error
    with held:
        for file in [file for parent in parents for file in parent.iterdir()]:
            if re.fullmatch(r"tmp[a-z0-9_]{8}", file.name):
                file.unlink()
        yield


def data_hash(dataset):
    """Return a SHA-256 over the contents of an image set, part of a run's identity.

    Parameters
    ----------
    dataset : str, path-like, mapping of str to ndarray, or list of ndarray
        As for `load_images`. Names and contents of your own images count, and not where they
        are; files are read each time, so that a change of one changes the hash.
    """
    if not isinstance(dataset, (str, os.PathLike)):
        digest = hashlib.sha256()
        for name, image in load_images(dataset).items():
            digest.update(f"{name!r} {image.shape}".encode())
            digest.update(image.tobytes())
        return digest.hexdigest()
    parts = _parts(dataset)
    if not any(isinstance(part, Path) for part in parts):
        return _registered_hash(tuple(parts))
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in folders.pictures(part):
                digest.update(f"{file.name!r} {pooch.file_hash(file)}".encode())
        else:
            digest.update(_registered_hash((part,)).encode())
    return digest.hexdigest()


def luma(image):
    """Return the luminance of an image as MATLAB's ``rgb2ycbcr`` gives it, rounded to 8 bits.

    Parameters
    ----------
    image : ndarray of uint8, (H, W) or (H, W, 3)
        Grey images are taken as luminance.

    Returns
    -------
    ndarray of float64, (H, W)
        Whole numbers, 16 to 235 for RGB input and 0 to 255 for grey.

    Raises
    ------
    TypeError
        If the image is no array.
    ValueError
        If it is not uint8, or neither grey nor RGB.
    """
    _check_image("image", image)
    if image.ndim == 2:
        return image.astype(np.float64)
    return skimage.color.rgb2ycbcr(image)[..., 0].round()


@cache
def _registry():
    with files("vdsr").joinpath("registry.csv").open() as f:
        return pd.read_csv(f, index_col="file")


@cache
def _files():
    """Return each downloadable image set's files, in order."""
    sets = {}
    for path in sorted(_registry().index):
        sets.setdefault(path.split("/")[0], []).append(path)
    sets = {k: tuple(v) for k, v in sets.items() if k not in ("matlab", "weights")}
    held_out = sets["BSD200"][::20]
    rest = tuple(path for path in sets["BSD200"] if path not in held_out)
    return sets | {"BSD10": held_out, "BSD190": rest}


def _known(parts):
    """Return whether all of some names are image sets'."""
    return all(part in SAMPLES or part in _files() for part in parts)


def _parts(dataset):
    """Return what a text or a path names: image sets as their names, folders as paths."""
    if not isinstance(dataset, str):
        return [_folder(dataset)]
    parts = dataset.split("+")
    if not _known(parts) and dataset and os.path.isdir(os.path.expanduser(dataset)):
        return [_folder(dataset)]  # whose name may have a plus in it
    return [part if _known([part]) else _folder(part) for part in parts]


def _folder(path):
    """Return the path of a folder, or raise what `load_images` says."""
    folder = Path(os.path.expanduser(path))
    if path != "" and folder.is_dir():
        return folder
    if path == "" or (isinstance(path, str) and not (os.path.dirname(path) or folder.exists())):
        raise ValueError(
            f"dataset must be an image set or the path of a folder, got unknown image set "
            f"{path!r}; known are {', '.join(dataset_names())}"
        )
    kind, what = FileNotFoundError, "does not exist"
    if folder.exists():
        kind, what = NotADirectoryError, "is a file; give its folder, or images as arrays"
    raise kind(f"dataset must be a folder of pictures, got {str(path)!r}, which {what}")


def _load(part):
    """Return the images of an image set or a folder."""
    if isinstance(part, Path):
        files = folders.pictures(part)
    elif part in SAMPLES:
        return {name: _sample(name) for name in SAMPLES[part]}
    else:
        files = fetch(_files()[part])
    images = {}
    for file in files:
        if file.stem in images:
            raise ValueError(
                f"dataset must hold each image name once, got two files named "
                f"{file.stem!r} in {str(part)!r}; rename one of the two"
            )
        images[file.stem] = folders.read(file)
    return images


def _pixels(name, image):
    """Return an image that was given as an array, or raise what `load_images` says."""
    if isinstance(image, Image.Image):
        image, wrong = folders.from_pillow(image)
        if wrong:
            remedy = "image.convert('RGB') makes it so, without what that cannot hold"
            if "8 bits" in wrong:
                remedy = "np.asarray(image) is an array, which can be brought to 8 bits"
            raise ValueError(
                f"{name} must be an opaque 8-bit grey or RGB picture, got a Pillow image with "
                f"{wrong}; {remedy}"
            )
    _check_image(name, image)
    return image


def _check_image(name, image):
    """Refuse what is not 8-bit grey or RGB, and say what makes it so."""
    remedy = None
    if not isinstance(image, np.ndarray):
        remedy = (
            "np.asarray makes an array of a tensor, and of a Pillow image once it is "
            "image.convert('RGB'); a path goes to skimage.io.imread first"
        )
    elif np.ma.is_masked(image):
        remedy = "image.filled(0) has no mask, which would be lost"
    elif image.dtype.kind == "f":
        remedy = "(255 * image).round().astype(np.uint8) makes it so, if white is 1"
    elif image.dtype == bool:
        remedy = "255 * image.astype(np.uint8) makes it so"
    elif image.dtype == np.uint16:
        remedy = "(image / 257).round().astype(np.uint8) makes it so, if white is 65535"
    elif image.dtype != np.uint8:
        remedy = "image.astype(np.uint8) makes it so, if its values are 0 to 255"
    elif image.ndim == 3 and image.shape[2] in (1, 2):
        remedy = "image[..., 0] is its grey channel"
    elif image.ndim == 3 and image.shape[2] == 4:
        remedy = "image[..., :3] leaves its alpha out, if it is RGBA and opaque"
    elif image.ndim == 3 and image.shape[0] == 3 and image.shape[2] != 3:
        remedy = "image.transpose(1, 2, 0) moves its channels to the end"
    elif not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        remedy = "give each image as an array of its own"
    if remedy:
        raise (ValueError if isinstance(image, np.ndarray) else TypeError)(
            f"{name} must be an array of uint8, (H, W) or (H, W, 3), got {shown(image)}; {remedy}"
        )


def _sample(name):
    image = getattr(skimage.data, name)()
    return image[0] if isinstance(image, tuple) else image  # the stereo pair's left half


@cache
def _registered_hash(parts):
    """Return the hash of image sets that are registered, which nothing changes."""
    digest = hashlib.sha256()
    for part in parts:
        if part in SAMPLES:
            for name in SAMPLES[part]:
                digest.update(_sample(name).tobytes())
        else:
            digest.update("".join(_registry().sha256[list(_files()[part])]).encode())
    return digest.hexdigest()
