"""What the paper reports, as data."""

from importlib.resources import files

import pandas as pd

TABLES = {
    "figure3": "paper_figure3_depth.csv",  # read off the published plot, ±0.01 dB
    "figure4": "paper_figure4_epochs.csv",  # its residual networks; epoch 1 read off, ±0.05 dB
    "table1": "paper_table1_residual.csv",
    "table2": "paper_table2_scales.csv",
    "table3": "paper_table3_benchmark.csv",
    "figures6_7": "paper_figures6_7.csv",
}


def table(name):
    """Return one of the paper's tables.

    Parameters
    ----------
    name : {"figure3", "figure4", "table1", "table2", "table3", "figures6_7"}
        ``"figure3"``: PSNR on Set5 by scale and depth, one multi-scale network each.
        ``"figure4"``: PSNR on Set5 ×2 of residual networks after 1 epoch and after 10.
        ``"table1"``: PSNR on Set5 ×2 by learning rate, network and epoch.
        ``"table2"``: PSNR on Set5 by the scales trained for and the scale tested.
        ``"table3"``: PSNR, SSIM and seconds by dataset, scale and method.
        ``"figures6_7"``: PSNR and SSIM of single images by method.

    Returns
    -------
    pandas.DataFrame
        Tidy, PSNR in dB.
    """
    with files("vdsr.study").joinpath(TABLES[name]).open() as file:
        return pd.read_csv(file)
