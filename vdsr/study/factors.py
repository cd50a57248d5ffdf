"""The network that ships, at factors it was not trained for: ``results/factors.csv``."""

import pandas as pd

from .. import ledger
from ..data import load_images
from ..evaluate import prepare, score
from ..files import load_checkpoint
from ..imresize import imresize
from ..patches import as_ratio
from ..upscale import PRETRAINED, load_pretrained, upscale

FACTORS = 1.25, 1.5, 1.75, 2.25, 2.5, 3.5, 5, 6, 8
SETS = "BSD10", "Set5"
WAYS = "interpolation", "at the factor", "at ×2, ×3, ×4"


def measure(images, factor):
    """Return the mean PSNR in dB of interpolation, and of the network used in two ways.

    Parameters
    ----------
    images : mapping of str to ndarray of uint8
    factor : float

    Returns
    -------
    dict of str to float
        By the names in `WAYS`: the network is given the picture as interpolated at the factor, or
        is used as `vdsr.upscale` does.
    """
    network, ratio = load_pretrained(), as_ratio(factor)
    rows = []
    for name, hr, ilr in prepare(images, factor):
        lr = imresize(hr, shape=[int(n / ratio) for n in hr.shape]).clip(0, 255) / 255
        larger = [ilr, *(255 * upscale(lr, factor, model=model) for model in (network, None))]
        scores = score(None, [(name, hr, plane) for plane in larger], factor)
        rows.append([row["psnr"] for row in scores])
    return dict(zip(WAYS, pd.DataFrame(rows).mean(), strict=True))


def update():
    """Measure the network that ships, if that has not been done."""
    run = load_checkpoint(PRETRAINED)[1]["run"]
    if run in {*ledger.table("factors").run}:
        return
    rows = [
        {"run": run, "dataset": name, "scale": factor, "way": way, "psnr": round(psnr, 3)}
        for name in SETS
        for factor in FACTORS
        for way, psnr in measure(load_images(name), factor).items()
    ]
    ledger.extend("factors", pd.DataFrame(rows), ["run", "dataset", "scale", "way"])


def by_factor():
    """Return what is recorded of the network that ships.

    Returns
    -------
    pandas.DataFrame
        PSNR in dB: a row a factor, a column an image set and a way.
    """
    table = ledger.table("factors")
    table = table[table.run == load_checkpoint(PRETRAINED)[1]["run"]]
    table = table.pivot(index="scale", columns=["dataset", "way"], values="psnr")
    return table.reindex(columns=pd.MultiIndex.from_product([SETS, WAYS]))
