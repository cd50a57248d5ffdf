"""What a picture file holds beside its pixels: read, fitted to the larger picture, handed on."""

import math
import re
from dataclasses import dataclass, field

from PIL import ExifTags, Image, PngImagePlugin, TiffTags

from .formats import KEPT

_EXIF, _GPS, _INTEROP = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop
_TAG = ExifTags.Base
# Chunks of a PNG that say what its numbers mean as colour, and those that say nothing of the
# picture, or what is written anew.
_COLOUR = b"gAMA", b"cHRM", b"sRGB", b"cICP"
_KNOWN = {*_COLOUR, b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt",
          b"acTL", b"fcTL", b"sBIT", b"bKGD", b"hIST", b"tIME"}  # fmt: skip
# Of a TIFF, whose tags describe the picture and the file alike: what is kept, and what describes
# how the file is laid out. What is in neither is lost.
_DESCRIBES = {269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, *range(40091, 40096), 33432}
_LAYOUT = {254, 255, *range(256, 260), 262, 263, 266, 273, 274, *range(277, 285), 292, 293, 296,
           297, 317, *range(320, 326), 332, 334, 336, 338, 339, 347, *range(512, 522),
           *range(529, 533), 700, 34675, _EXIF, _GPS}  # fmt: skip
# What Pillow passes over in the beginning of a file: patterns, and what they show to be there.
_UNREAD = {
    "JPEG2000": ((rb"colr\x02", "colour profile"), (rb"uuid|xml ", "data in boxes of their own")),
    "GIF": ((rb"ICCRGBG1012", "colour profile"),),
    "BMP": ((rb"^BM.{68}DEBM", "colour profile"),),
    "AVIF": ((rb"colrnclx(?!\x00[\x01\x02\x05\x06]\x00[\x01\x02\x06\x0d])",
              "wide range of colours"),),
}  # fmt: skip


@dataclass
class Metadata:
    """What a picture file holds beside its pixels.

    Parameters
    ----------
    exif : dict
        Value by tag; those of the two inner directories are dicts of the same kind.
    profile, xmp, comment : bytes
    resolution : tuple of float, optional
        Horizontal and vertical, in dots per inch.
    gamma : dict of bytes to bytes
        The chunks of a PNG that say what its numbers mean as colour.
    text : dict of str to str
        Of a PNG.
    lost : list of str
        What no format that is written keeps.
    damaged : list of str
        What could not be read.
    """

    exif: dict = field(default_factory=dict)
    profile: bytes = b""
    xmp: bytes = b""
    comment: bytes = b""
    resolution: tuple | None = None
    gamma: dict = field(default_factory=dict)
    text: dict = field(default_factory=dict)
    lost: list = field(default_factory=list)
    damaged: list = field(default_factory=list)

    @property
    def orientation(self):
        """How the pixels lie, 1 to 8; 1 is upright."""
        value = self.exif.get(_TAG.Orientation, 1)
        return value if value in range(1, 9) else 1

    def fit(self, old, new):
        """Make what speaks of pixels true of an upright, larger picture.

        Parameters
        ----------
        old, new : tuple of int
            Height and width of the upright picture before and after.
        """
        (height, width), upright = new, self.orientation == 1
        if self.orientation > 4 and self.resolution:
            self.resolution = self.resolution[::-1]
        tags = dict(self.exif)
        tags.pop(_TAG.Orientation, None)
        _replace(tags, {_TAG.ImageWidth: width, _TAG.ImageLength: height})
        if self.resolution and _TAG.XResolution in tags:
            tags |= _resolution_tags(self.resolution)
        inner = dict(tags.get(_EXIF, {}))
        _replace(inner, {_TAG.ExifImageWidth: width, _TAG.ExifImageHeight: height})
        factors = width / old[1], height / old[0]
        for tag, factor in zip(_FOCAL_PLANE, factors, strict=True):
            if tag in inner:  # pixels of the picture, not of the sensor, to a unit of length
                inner[tag] = _number(inner[tag]) * factor
        for tag in _SUBJECT:
            place = inner.pop(tag, None)
            if isinstance(place, tuple) and upright:
                inner[tag] = tuple(
                    min(round(_number(n) * factors[i % 2]), 65535) for i, n in enumerate(place)
                )
            elif place is not None:
                self.lost.append("place of the subject in EXIF")
        if inner:
            tags[_EXIF] = inner
        self.exif = tags
        for name, value in (
            (b"tiff:Orientation", 1), (b"tiff:ImageWidth", width), (b"tiff:ImageLength", height),
            (b"exif:PixelXDimension", width), (b"exif:PixelYDimension", height),
        ):  # fmt: skip
            pattern = b"(%s(?:\\s*=\\s*[\"']|>\\s*))\\d+" % name
            self.xmp = re.sub(pattern, b"\\g<1>%d" % value, self.xmp)

    def options(self, kind):
        """Return what of this a format holds, as options of Pillow's encoder by `KEPT`'s names."""
        given = {}
        exif = dict(self.exif)
        if self.resolution and "exif" in kind.keeps and kind.pillow in ("WEBP", "AVIF"):
            exif |= _resolution_tags(self.resolution)  # which have no other place for it
        elif self.resolution:
            given["resolution"] = {"dpi": self.resolution}
        if self.profile:
            given["profile"] = {"icc_profile": self.profile}
        if exif:
            given["exif"] = {"exif": exif_bytes(exif)}
        if self.xmp:
            given["xmp"] = {"xmp": self.xmp}
        if kind.pillow == "TIFF":
            tags = exif | ({700: self.xmp} if self.xmp else {})
            tags = {t: v for t, v in tags.items() if t not in (256, 257)}  # the file's own
            if _EXIF in tags:  # Pillow's TIFFs have no directory within the inner one
                tags[_EXIF] = {t: v for t, v in tags[_EXIF].items() if t != _INTEROP}
            given.pop("xmp", None)
            if tags:
                given["exif"] = {"exif": exif_bytes(tags)}
        if self.comment:
            given["comment"] = {"comment": self.comment}
        if kind.pillow == "PNG":
            given |= self._chunks()
        return {name: value for name, value in given.items() if name in kind.keeps}

    def _chunks(self):
        given = {}
        for name, adds in (
            ("gamma", [("add", cid, data) for cid, data in self.gamma.items()]),
            ("xmp", [("add_itxt", "XML:com.adobe.xmp", self.xmp)] if self.xmp else []),
            ("comment", [("add_text", "Comment", self.comment)] if self.comment else []),
            ("text", [("add_text", key, value) for key, value in self.text.items()]),
        ):
            if adds:
                given[name] = {"pnginfo": (info := PngImagePlugin.PngInfo())}
                for method, *arguments in adds:
                    getattr(info, method)(*arguments)
        return given

    def losses(self, kind):
        """Return what of this a format does not hold, in words."""
        has = {
            "profile": self.profile,
            "exif": {k: v for k, v in self.exif.items() if v and k not in _RESOLUTION},
            "xmp": self.xmp,
            # 72 dots per inch are what encoders write who know of none.
            "resolution": self.resolution and any(round(n) != 72 for n in self.resolution),
            "gamma": not self.profile and _unusual(self.gamma),
            "comment": self.comment,
            "text": self.text,
        }
        names = [KEPT[name] for name in KEPT if has[name] and name not in kind.keeps]
        if "other text" in names:
            names[names.index("other text")] = f"text ({', '.join(self.text)})"
        return names + self.lost


_FOCAL_PLANE = _TAG.FocalPlaneXResolution, _TAG.FocalPlaneYResolution
_SUBJECT = 0x9214, 0xA214  # its area and its location, in pixels
_RESOLUTION = _TAG.XResolution, _TAG.YResolution, _TAG.ResolutionUnit


def _resolution_tags(resolution):
    return dict(zip(_RESOLUTION, (*map(float, resolution), 2), strict=True))


def _number(value):
    """Return a finite number for what a damaged file may hold in the place of one."""
    try:
        return float(value) if math.isfinite(value) else 0.0
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0


def _replace(tags, values):
    tags.update({tag: value for tag, value in values.items() if tag in tags})


def _unusual(chunks):
    """Whether colours by a PNG's chunks are others than sRGB's, which go without saying."""
    if b"cICP" in chunks:
        return chunks[b"cICP"][:2] != b"\x01\x0d"
    if b"sRGB" in chunks:
        return False
    gamma = int.from_bytes(chunks.get(b"gAMA", b""), "big") or 45455
    wanted = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    points = chunks.get(b"cHRM", b"")
    points = [int.from_bytes(points[i : i + 4], "big") for i in range(0, len(points), 4)] or wanted
    return abs(gamma - 45455) > 500 or any(
        abs(a - b) > 500 for a, b in zip(points, wanted, strict=False)
    )


def exif_bytes(tags):
    """Return EXIF data, tags and inner directories in a dict, as files hold them."""
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    return exif.tobytes()


def read(picture, head, chunks):
    """Return the `Metadata` of a picture that Pillow has loaded from a file.

    Parameters
    ----------
    picture : PIL.Image.Image
    head : bytes
        The beginning of its file.
    chunks : list of (bytes, bytes)
        Of a PNG, up to its pixels.
    """
    data, info = Metadata(), picture.info
    for name, reader in (
        ("exif", _exif), ("resolution", _resolution), ("text", _text), ("lost", _lost),
    ):  # fmt: skip
        try:
            setattr(data, name, reader(picture))
        except Exception:  # whatever Pillow meets in a damaged file
            data.damaged.append(KEPT.get(name, "other data"))
    for name, key in (("profile", "icc_profile"), ("xmp", "xmp"), ("comment", "comment")):
        value = info.get(key, b"")
        if value is None:  # which Pillow could not unpack
            data.damaged.append(KEPT[name])
        value = value or b""
        setattr(data, name, value.encode() if isinstance(value, str) else bytes(value))
    if data.comment.startswith(b"Created by OpenJPEG"):
        data.comment = b""
    data.gamma = {cid: body for cid, body in chunks if cid in _COLOUR}
    if unknown := sorted({cid.decode("latin-1") for cid, _ in chunks if cid not in _KNOWN}):
        data.lost.append(f"PNG chunks {', '.join(unknown)}")
    if picture.format == "JPEG2000":
        head = head.partition(b"\xff\x4f\xff\x51")[0]  # without the pixels
    for pattern, name in _UNREAD.get(picture.format, ()):
        if re.search(pattern, head, re.DOTALL):
            data.lost.append(name)
    return data


def _exif(picture):
    exif = picture.getexif()
    tags = {tag: exif[tag] for tag in exif}
    for tag in (_EXIF, _GPS):
        if tag in tags:
            tags[tag] = dict(exif.get_ifd(tag))
    if _INTEROP in (inner := tags.get(_EXIF, {})):
        inner[_INTEROP] = dict(exif.get_ifd(_INTEROP))
    about = {256, 257, *_RESOLUTION, _TAG.Orientation, _EXIF, _GPS}
    if picture.format == "TIFF":
        tags = {t: v for t, v in tags.items() if t in _DESCRIBES | about - {256, 257}}
        if str(tags.get(_TAG.ImageDescription, "")).startswith('{"shape"'):
            del tags[_TAG.ImageDescription]  # which speaks of the file's pixels
    tags = {t: v for t, v in tags.items() if v != {} and (t in about or t not in _LAYOUT)}
    exif_bytes(tags)  # which fails now rather than after the work
    return tags


def _resolution(picture):
    value = picture.info.get("dpi")
    if value is None and _TAG.XResolution in (exif := picture.getexif()):
        unit = {2: 1, 3: 2.54}.get(exif.get(_TAG.ResolutionUnit, 2))
        value = unit and [unit * exif.get(t, exif[_TAG.XResolution]) for t in _RESOLUTION[:2]]
    if not value:
        return None
    value = tuple(float(n) for n in value)
    return value if all(math.isfinite(n) and 0 < n < 1e6 for n in value) else None


def _text(picture):
    text = dict(getattr(picture, "text", {}))
    if "Comment" in text:
        picture.info["comment"] = str(text.pop("Comment"))
    return {
        key: value for key, value in text.items()
        if key != "XML:com.adobe.xmp" and not key.startswith("Raw profile type")
    }  # fmt: skip


def _lost(picture):
    info, lost = picture.info, []
    if picture.format == "TIFF":
        unknown = sorted(set(picture.tag_v2) - _DESCRIBES - _LAYOUT)
        if unknown:
            names = ", ".join(f"{TiffTags.lookup(tag).name} ({tag})" for tag in unknown)
            lost.append(f"TIFF tags {names}")
        if 0 in picture.tag_v2.get(338, ()):
            lost.append("channel of no stated meaning")
    elif "photoshop" in info or "Raw profile type iptc" in info:
        lost.append("IPTC data")
    aspect = info.get("aspect") or (info.get("jfif_unit") == 0 and info.get("jfif_density"))
    if aspect and aspect[0] != aspect[1]:
        lost.append("aspect ratio of its pixels")
    return lost
