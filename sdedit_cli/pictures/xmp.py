"""XMP packets: that of an input cleaned of what holds for another picture, and the mark of how this one was made.

The mark is `DigitalSourceType` of the IPTC, by which programs tell pictures that a model took part in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
KEY = "XML:com.adobe.xmp"
# More than any packet that describes one picture; histories of documents can grow beyond it.
MAX_BYTES, MAX_ELEMENTS = 1 << 20, 40_000

_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_TIFF, _EXIF, _XMP = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/", "http://ns.adobe.com/xap/1.0/"
_BY_AN_ALGORITHM = "lgorithmicMedia"
_SIDES = (
    ((_TIFF, "ImageWidth"), (_EXIF, "PixelXDimension")),
    ((_TIFF, "ImageLength"), (_EXIF, "PixelYDimension")),
)
# How its pixels were turned; small pictures of it; the rest of a packet in further segments; where its manifest of
# C2PA lies.
_GONE = {
    (_TIFF, "Orientation"),
    (_XMP, "Thumbnails"),
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP"),
    ("http://purl.org/dc/terms/", "provenance"),
}
# What phones put behind the pixels: films, depths, gain maps.
_GONE_SPACES = {
    "http://ns.google.com/photos/1.0/camera/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.adobe.com/hdr-gain-map/1.0/",
}
_EMPTY = f'<x:xmpmeta xmlns:x="{_META}"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'
_BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_END = '\n<?xpacket end="w"?>'


def packet(source: bytes, size: tuple[int, int], *, marked: bool) -> bytes:
    """The packet of an upright picture of this size (width, height) that was made of one with the packet `source`
    (b'' for none), `marked` as made with a model or not; b'' where it would say nothing.

    Raises ValueError for a source that is no packet, or beyond the bounds.
    """
    if not source and not marked:
        return b""
    try:
        return _written(source, size, marked=marked)
    except RecursionError:
        raise ValueError("too deep") from None


def _written(source: bytes, size: tuple[int, int], *, marked: bool) -> bytes:
    with _opened(source or _EMPTY.encode()) as document:  # its parts name each other, and would wait for the collector
        rdf = _rdf(document)
        for node in list(_described(rdf)):
            _clean(node, size, marked=marked)
        for description in [one for one in rdf.childNodes if _says_nothing(one)]:
            _remove(description)
        if marked:
            _mark(rdf)
        return (_BEGIN + document.documentElement.toxml() + _END).encode()


def _opened(source: bytes) -> Any:
    """A packet as a document."""
    from xml.dom import minidom
    from xml.parsers.expat import ExpatError

    source = source.strip(b"\0 \r\n\t")
    wide = source[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in source[:4]
    if len(source) > MAX_BYTES or source.count(b"<") + source.count(b"=") > MAX_ELEMENTS:
        raise ValueError("too large")
    # Entities can unfold without end, and name files; no packet has any.
    if wide or b"<!" in source:
        raise ValueError("no plain XML")
    try:
        return minidom.parseString(source)
    except (ExpatError, ValueError, LookupError):
        raise ValueError("no XML") from None


def _rdf(document: Any) -> Any:
    """The element of RDF."""
    found = next(iter(document.getElementsByTagNameNS(_RDF, "RDF")), None)
    if found is None:
        raise ValueError("no RDF")
    return found


def _name(node: Any) -> tuple[str, str]:
    return node.namespaceURI or "", node.localName or ""


def _described(rdf: Any) -> Iterator[Any]:
    """Every property of the picture: an element or an attribute of a description."""
    for description in list(rdf.childNodes):
        if description.nodeType == description.ELEMENT_NODE:
            yield from list(description.attributes.values())
            yield from [one for one in description.childNodes if one.nodeType == one.ELEMENT_NODE]


def _clean(node: Any, size: tuple[int, int], *, marked: bool) -> None:
    name = _name(node)
    stale = name == (_EXT, "DigitalSourceType") and (marked or _BY_AN_ALGORITHM not in _said(node))
    if stale or name in _GONE or name[0] in _GONE_SPACES:
        _remove(node)
    for side, names in zip(size, _SIDES, strict=True):
        if name in names:
            _say(node, str(side))


def _says_nothing(node: Any) -> bool:
    """Whether a node is a description of nothing."""
    if _name(node) != (_RDF, "Description") or node.getElementsByTagName("*"):
        return False
    return all(one.namespaceURI == _XMLNS or _name(one) == (_RDF, "about") for one in node.attributes.values())


def _is_attribute(node: Any) -> bool:
    return bool(node.nodeType == node.ATTRIBUTE_NODE)


def _remove(node: Any) -> None:
    if _is_attribute(node):
        node.ownerElement.removeAttributeNode(node)
    else:
        node.parentNode.removeChild(node).unlink()


def _said(node: Any) -> str:
    return str(node.value if _is_attribute(node) else node.toxml())


def _say(node: Any, text: str) -> None:
    if _is_attribute(node):
        node.value = text
        return
    while node.firstChild:
        _remove(node.firstChild)
    node.appendChild(node.ownerDocument.createTextNode(text))


def _mark(rdf: Any) -> None:
    """Says how the picture was made, in a description of its own, whatever prefixes the packet uses."""
    document = rdf.ownerDocument
    prefix = rdf.prefix or "rdf"
    description = document.createElementNS(_RDF, f"{prefix}:Description")
    description.setAttributeNS(_XMLNS, f"xmlns:{prefix}", _RDF)
    description.setAttributeNS(_XMLNS, "xmlns:Iptc4xmpExt", _EXT)
    description.setAttributeNS(_RDF, f"{prefix}:about", _about(rdf))
    mark = document.createElementNS(_EXT, "Iptc4xmpExt:DigitalSourceType")
    mark.appendChild(document.createTextNode(DIGITAL_SOURCE_TYPE))
    description.appendChild(mark)
    rdf.appendChild(description)


def _about(rdf: Any) -> str:
    """What the packet describes: all of its descriptions must name the same."""
    for node in rdf.childNodes:
        if node.nodeType == node.ELEMENT_NODE and node.hasAttributeNS(_RDF, "about"):
            return str(node.getAttributeNS(_RDF, "about"))
    return ""
