"""Arguments as what they mean, or an error that names the argument, its value and the remedy."""

import reprlib
from math import isfinite
from numbers import Integral, Rational, Real

import numpy as np


def shown(value):
    """Return a value as a message shows it: in short, and an array by its type and shape."""
    if getattr(value, "shape", ()) and hasattr(value, "dtype"):
        return f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    return reprlib.repr(value)


def real(name, value, must):
    """Return a finite number as Python's int, Fraction or float, NumPy's numbers among them.

    Parameters
    ----------
    name : str
        Of the argument, for the error.
    value : object
        What was given.
    must : str
        What the argument must be, for the error.

    Raises
    ------
    TypeError
        If it is no real number.
    ValueError
        If it is not finite.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {must}, got {shown(value)}")
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Rational):
        return value
    if not isfinite(value):
        raise ValueError(f"{name} must be {must}, got {shown(value)}")
    return float(value)


def whole(name, value, least, must):
    """Return a whole number as Python's int, a float such as 3.0 among them.

    Parameters
    ----------
    name, value, must
        As in `real`.
    least : int
        The smallest that is allowed.

    Raises
    ------
    TypeError
        If it is no real number.
    ValueError
        If it is not whole, or too small.
    """
    number = real(name, value, must)
    if number != int(number) or number < least:
        raise ValueError(f"{name} must be {must}, got {shown(value)}")
    return int(number)


def numbers(name, value, must):
    """Return an array of real numbers, or of truth values, from what NumPy makes an array of.

    Parameters
    ----------
    name, value, must
        As in `real`.

    Raises
    ------
    TypeError
        If it is something else.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # torch's word for what needs a gradient
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be {must}, got {shown(value)}")
    return array
