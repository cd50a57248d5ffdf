"""Arguments as what they mean, or an error that names the argument, its value and the remedy."""

import os
import reprlib
from math import isfinite
from numbers import Integral, Rational, Real
from pathlib import Path

import numpy as np
from PIL import Image


def shown(value):
    """Return a value as a message shows it: in short, and an array by its type and shape."""
    if getattr(value, "shape", ()) and hasattr(value, "dtype"):
        return f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    return " ".join(reprlib.repr(value).split())


def first_line(error):
    """Return an error's message, or its kind, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def real(name, value, must, allowed):
    """Return a finite number as Python's int, Fraction or float, NumPy's and torch's among them.

    Parameters
    ----------
    name : str
        Of the argument, for the error.
    value : object
        What was given.
    must : str
        What the argument must be, for the error.
    allowed : callable
        Tells of a number whether it may be.

    Raises
    ------
    TypeError
        If it is no real number.
    ValueError
        If it is not finite, or not allowed.
    """
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(number, bool) or not isinstance(number, Real):
        raise TypeError(f"{name} must be {must}, got {shown(value)}")
    if isinstance(number, Integral):
        number = int(number)
    elif not isinstance(number, Rational):
        number = float(number)
    if (isinstance(number, float) and not isfinite(number)) or not allowed(number):
        raise ValueError(f"{name} must be {must}, got {shown(value)}")
    return number


def whole(name, value, must, allowed):
    """Return a whole number as Python's int, a float such as 3.0 among them.

    Parameters
    ----------
    name, value, must, allowed
        As in `real`, which says what is raised.
    """
    return int(real(name, value, must, lambda number: number == int(number) and allowed(number)))


def truth(name, value):
    """Raise a TypeError for what is not True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")


def file_path(name, value):
    """Return a `pathlib.Path`, or raise a TypeError for what is no path."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be the path of a file, got {shown(value)}")
    return Path(value)


def numbers(name, value, must):
    """Return an array of real numbers, or of truth values, from what NumPy makes an array of.

    Parameters
    ----------
    name, value, must
        As in `real`.

    Raises
    ------
    TypeError
        If it is something else, a Pillow image with a palette among it.
    """
    if isinstance(value, Image.Image) and value.mode in ("P", "PA"):
        raise TypeError(
            f"{name} must be {must}, got a Pillow image of mode {value.mode}, whose numbers are "
            f"places in its palette; image.convert('RGB') gives its colours, 'L' its grey"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # torch's word for what needs a gradient
        array = np.asarray(None)
    if np.ma.is_masked(value):
        raise TypeError(
            f"{name} must be {must}, got a masked array, whose mask would be lost; fill it first: "
            f"image.filled(0)"
        )
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be {must}, got {shown(value)}")
    return array
