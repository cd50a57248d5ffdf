"""The public image sets, downloaded once and checked, and the luminance the paper works on."""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

with warnings.catch_warnings():  # importing vdsr is silent; in a notebook pooch would not be
    warnings.filterwarnings("ignore", "IProgress not found")
    import pooch

import skimage.data
from skimage.color import rgb2ycbcr
from skimage.io import imread

# Pictures inside scikit-image's own package: no download, for quick trials and tests.
SAMPLES = {
    "samples-train": (
        "brick", "camera", "coffee", "grass", "gravel", "hubble_deep_field", "rocket",
        "stereo_motorcycle",
    ),
    "samples-test": ("astronaut", "chelsea"),
}  # fmt: skip


def dataset_names():
    """Return the names that `load_images` knows."""
    return [*_files(), *SAMPLES]


def load_images(name):
    """Load an image set, downloading what is not yet in the cache folder.

    The folder is pooch's cache, or the one that the environment variable
    ``VDSR_DATA_DIR`` names. Every file's SHA-256 is checked.

    Parameters
    ----------
    name : str
        ``"T91"``, ``"BSD200"``, ``"Set5"``, ``"Set14"``, ``"B100"`` or ``"Urban100"``;
        ``"BSD10"``, every 20th image of BSD200, for validation;
        ``"samples-train"`` or ``"samples-test"``, the pictures inside scikit-image.
        A ``+`` joins sets: ``"T91+BSD200"``.

    Returns
    -------
    dict of str to ndarray of uint8
        Image name to pixels, (H, W) for grey images and (H, W, 3) for RGB.

    Raises
    ------
    ValueError
        For an unknown name.
    OSError
        If a file can be neither found nor downloaded, or is not what it should be.
    """
    images = {}
    for part in name.split("+"):
        if part in SAMPLES:
            images |= {n: _sample(n) for n in SAMPLES[part]}
        else:
            images |= {p.stem: imread(p) for p in fetch(_members(part))}
    return images


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
    OSError
        If a file can be neither found nor downloaded, or is not what it should be.
    """
    table = _registry()
    store = pooch.create(
        path=os.environ.get("VDSR_DATA_DIR") or pooch.os_cache("vdsr"),
        base_url="",
        registry=table.sha256.to_dict(),
        urls=table.url.to_dict(),
    )
    absent = [p for p in paths if not (store.abspath / p).exists()]
    for path in absent:  # pooch's threads would race to do it
        (store.abspath / path).parent.mkdir(parents=True, exist_ok=True)
    progress = tqdm(total=len(absent), desc="Downloading", unit="file", disable=None)

    def get(path):
        try:
            local = Path(store.fetch(path, downloader=pooch.HTTPDownloader(timeout=60)))
        except (OSError, ValueError) as error:  # ValueError: pooch's word for a wrong hash
            raise OSError(
                f"cannot get {path} from {table.url[path]}: {error}. Nothing was kept. Try again "
                f"with a network, or put the file into {store.abspath} or into a folder "
                f"that VDSR_DATA_DIR names"
            ) from error
        if path in absent:
            progress.update()
        return local

    pooch.get_logger().setLevel("WARNING")  # the progress bar says what pooch would
    with progress, ThreadPoolExecutor(8) as pool:
        return list(pool.map(get, paths))


@cache
def data_hash(name):
    """Return a SHA-256 over the contents of an image set, part of a run's identity."""
    digest = hashlib.sha256()
    for part in name.split("+"):
        if part in SAMPLES:
            for image in load_images(part).values():
                digest.update(image.tobytes())
        else:
            digest.update("".join(_registry().sha256[list(_members(part))]).encode())
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
    ValueError
        If the image is not uint8, or neither grey nor RGB.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] == (3,)):
        raise ValueError(f"luma needs uint8 (H, W) or (H, W, 3), got {image.dtype} {image.shape}")
    if image.ndim == 2:
        return image.astype(np.float64)
    return rgb2ycbcr(image)[..., 0].round()


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
    return sets | {"BSD10": sets["BSD200"][::20]}


def _members(name):
    try:
        return _files()[name]
    except KeyError:
        raise ValueError(
            f"unknown image set {name!r}; known are {', '.join(dataset_names())}"
        ) from None


def _sample(name):
    image = getattr(skimage.data, name)()
    return image[0] if isinstance(image, tuple) else image  # the stereo pair's left half
