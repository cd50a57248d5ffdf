"""Picture formats: which are read and written, and what a file of each can hold.

`FORMATS` is an allow-list. A file of another kind is refused whatever its name says, so that no
interpreter of page descriptions is started by a picture that is none.
"""

from dataclasses import dataclass, field
from pathlib import Path


class Unsupported(ValueError):
    """A picture of a kind that is not read."""


CHANNELS = {1: "grey", 2: "grey with transparency", 3: "RGB", 4: "RGB with transparency"}


@dataclass(frozen=True)
class Format:
    """What a written file of a format holds.

    Parameters
    ----------
    name, pillow : str
        As people call it, and as Pillow does.
    suffixes : tuple of str
        Of the files that are written; reading goes by the content.
    pixels : str
        How pixels come back.
    bits8, bits16 : tuple of int
        Numbers of channels (see `CHANNELS`) that it holds at 8 and at 16 bits each.
    keeps : frozenset of str
        Of `KEPT`, what else it holds.
    options : dict
        For Pillow's encoder.
    side, area : int
        Most pixels of a side, and of the picture.
    size : int
        Most bytes of the pixels, in a format that does not compress them.
    """

    name: str
    pillow: str
    suffixes: tuple
    pixels: str
    bits8: tuple = (1, 2, 3, 4)
    bits16: tuple = ()
    keeps: frozenset = frozenset()
    options: dict = field(default_factory=dict)
    side: int = 1_000_000  # which is libpng's limit, and enough elsewhere, too
    area: int = 2**40
    size: int = 2**64

    def refusal(self, channels, bits, height, width):
        """Return why a picture cannot be held, or None."""
        if bits == 16 and not self.bits16:
            return "16 bits a channel"
        if channels not in (self.bits8 if bits == 8 else self.bits16):
            return ("16-bit " if bits == 16 else "") + CHANNELS[channels]
        if max(height, width) > self.side:
            return f"{width}×{height} pixels: a side has at most {self.side:,}"
        if height * width > self.area:
            return f"{width}×{height} pixels: they are at most {self.area:,} in all"
        if height * width * channels * bits // 8 > self.size:
            return f"{width}×{height} pixels: their bytes are at most {self.size:,}"
        return None


# What a file may hold beside its pixels, by the names that warnings use.
KEPT = {
    "profile": "colour profile",
    "exif": "EXIF data",
    "xmp": "XMP data",
    "resolution": "resolution",
    "gamma": "gamma",
    "comment": "comment",
    "text": "other text",
}
_DATA = frozenset({"profile", "exif", "xmp", "resolution"})
_4GIB = 2**32 - 2**20  # less room for the head

FORMATS = (
    Format("PNG", "PNG", (".png",), "exact", bits16=(1, 2, 3, 4),
           keeps=_DATA | {"gamma", "comment", "text"}),
    Format("TIFF", "TIFF", (".tif", ".tiff"), "exact", bits16=(1, 3, 4), keeps=_DATA,
           size=_4GIB),
    Format("WebP", "WEBP", (".webp",), "exact", keeps=_DATA, side=16_383,
           options={"lossless": True, "exact": True}),
    Format("JPEG", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), "quality 95, 4:4:4", bits8=(1, 3),
           keeps=_DATA | {"comment"}, side=65_500, options={"quality": 95, "subsampling": "4:4:4"}),
    Format("AVIF", "AVIF", (".avif",), "quality 100, 4:4:4", keeps=_DATA, side=32_768, area=2**28,
           options={"quality": 100, "subsampling": "4:4:4"}),
    Format("JPEG 2000", "JPEG2000", (".jp2",), "exact", bits16=(1,),
           keeps=frozenset({"comment"})),
    Format("GIF", "GIF", (".gif",), "256 colours", bits8=(1, 3), keeps=frozenset({"comment"}),
           side=65_535),
    Format("BMP", "BMP", (".bmp",), "exact", bits8=(1, 3), keeps=frozenset({"resolution"}),
           size=_4GIB),
    Format("PPM", "PPM", (".ppm", ".pnm"), "exact", bits8=(1, 3), bits16=(1,)),
    Format("PGM", "PPM", (".pgm",), "exact, grey alone", bits8=(1,), bits16=(1,)),
)  # fmt: skip

READ = tuple(dict.fromkeys(kind.pillow for kind in FORMATS))


def by_suffix(target):
    """Return the `Format` that a file's suffix names.

    Parameters
    ----------
    target : path-like

    Raises
    ------
    ValueError
        If there is none.
    """
    suffix = Path(target).suffix.lower()
    for kind in FORMATS:
        if suffix in kind.suffixes:
            return kind
    known = ", ".join(suffix for kind in FORMATS for suffix in kind.suffixes)
    said = f"the suffix {suffix}" if suffix else "no suffix"
    raise ValueError(f"{str(target)!r} has {said}, which says no format to write; use {known}")


def holders(channels, bits, height, width):
    """Return the names of the formats that hold such a picture, for an error's remedy."""
    return ", ".join(f.name for f in FORMATS if not f.refusal(channels, bits, height, width))


def table():
    """Return the formats and what a file of each holds, as a table in Markdown."""
    rows = [["", "files", "pixels come back", "16 bits", "transparency", "kept beside pixels"]]
    rows.append(["---"] * len(rows[0]))
    for kind in FORMATS:
        kept = [name for key, name in KEPT.items() if key in kind.keeps]
        rows.append([
            kind.name,
            ", ".join(f"`{suffix}`" for suffix in kind.suffixes),
            kind.pixels,
            _held(kind.bits16, {1: "grey", 3: "RGB"}),
            _held(kind.bits8, {2: "of grey", 4: "of RGB"}),
            ", ".join(kept) or "nothing",
        ])  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _held(numbers, names):
    held = [name for number, name in names.items() if number in numbers]
    return {0: "no", len(names): "yes"}.get(len(held), "only " + ", ".join(held))
