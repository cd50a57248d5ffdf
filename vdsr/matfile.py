"""MATLAB's ``.mat`` files of versions 5 to 7: structs, cells and arrays of numbers.

SciPy reads more of the format, but trusts it: of 1,000 files with one byte changed, SciPy 1.17 ends
12 in a crash of Python itself (scipy/scipy#25829). Here any damage is an error.
"""

import struct
import zlib
from math import prod

import numpy as np

# Of data elements and of arrays, by The MathWorks, "MAT-File Format", tables 1-1 and 1-3.
NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, DOUBLE, LAST_INTEGER = 1, 2, 6, 15


def read_mat(path):
    """Return the variables of a file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of str to object
        Arrays of numbers as ndarray, of at least two axes, cell arrays as lists in MATLAB's
        order, and structs as dicts; what is something else, complex or an array of structs
        as None.

    Raises
    ------
    ValueError
        If the file is of another format, or damaged.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        data = memoryview(file.read())
    if bytes(data[:10]) == b"MATLAB 7.3" or bytes(data[:4]) == b"\x89HDF":
        raise ValueError("it is HDF5, of MATLAB 7.3; there, save(..., '-v7') makes it readable")
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(bytes(data[124:128]))
    if order is None:
        raise ValueError("it is no .mat file of MATLAB 5 to 7")
    variables = {}
    try:
        for kind, element in _elements(data[128:], order):
            if kind == COMPRESSED:
                unpacked = memoryview(zlib.decompressobj().decompress(element, 2**30))
                kind, element = next(_elements(unpacked, order))
            name, value = _matrix(kind, element, order)
            variables[name] = value
    except Exception as error:  # there is no end to what a wrong byte can mean
        raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from error
    return variables


def _elements(data, order):
    """Yield type and contents of the data elements that follow one another."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # up to four bytes have their size beside the type
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            end = start + size + (0 if kind == COMPRESSED else -size % 8)
        contents = data[start : start + size]
        if len(contents) < size or (start == at + 4 and size > 4):
            raise ValueError("an element is longer than what holds it")
        yield kind, contents
        at = end


def _matrix(kind, data, order):
    """Return name and value of an array."""
    if kind != MATRIX:
        raise ValueError(f"an element of type {kind} is no array")
    if not len(data):  # an empty cell
        return "", None
    elements = _elements(data, order)
    flags = struct.unpack_from(f"{order}I", next(elements)[1])[0]
    kind, is_complex = flags & 0xFF, flags & 0x800
    if kind not in (CELL, STRUCT, *range(DOUBLE, LAST_INTEGER + 1)):  # text, say, or an object
        return "", None
    shape = np.frombuffer(next(elements)[1], f"{order}i4").tolist()
    name = bytes(next(elements)[1]).decode("ascii")
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"an array cannot be of shape {shape}")
    if kind == CELL:
        return name, [_matrix(*next(elements), order)[1] for _ in range(_count(shape, data))]
    if kind == STRUCT and prod(shape) == 1:
        length, names = (bytes(next(elements)[1]) for _ in range(2))
        length = struct.unpack_from(f"{order}I", length)[0]
        fields = [names[i : i + length].split(b"\0")[0] for i in range(0, len(names), length)]
        return name, {f.decode("ascii"): _matrix(*next(elements), order)[1] for f in fields}
    if kind >= DOUBLE and not is_complex:
        stored, values = next(elements)  # MATLAB stores whole numbers as the smallest type
        return name, np.frombuffer(values, order + NUMBERS[stored]).reshape(shape, order="F")
    return name, None


def _count(shape, data):
    """Return how many arrays a cell array holds, of 8 bytes at least each."""
    if prod(shape) > len(data):
        raise ValueError(f"a cell array of shape {shape} has {len(data)} bytes")
    return prod(shape)
