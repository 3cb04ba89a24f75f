"""The endings by which a picture is told in a folder, and those of formats that are written; which file is a picture is
for its content to say."""

from __future__ import annotations

# Of the formats that are read (see `readers`), without endings that are mostly something else than a picture.
_READ = """
png apng jpg jpeg jpe jfif mpo webp tif tiff bmp dib gif avif avifs jp2 j2k jpf jpx jpc j2c qoi ppm pgm pbm pnm pfm
tga icb vda vst ico icns cur psd dds pcx dcx sgi rgb rgba bw ras xbm xpm msp
"""
READ_ENDINGS = frozenset(f".{ending}" for ending in _READ.split())
COMMON_ENDINGS = ".png, .jpg, .webp, .tif, .bmp, .gif and the like"

# Formats that are written, with the ending that each gets, and the format that an ending asks for.
FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "avif": ".avif", "gif": ".gif"}
SUFFIXES = {
    ".png": "png",
    ".apng": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".webp": "webp",
    ".avif": "avif",
    ".gif": "gif",
}
