"""What is made of a packet of XMP goes with the picture that it was made for."""

from __future__ import annotations

import gc

import pytest

from sdedit_cli.pictures.xmp import packet

FULL = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xap="http://ns.adobe.com/xap/1.0/" rdf:about=""
 tiff:Orientation="6"><tiff:ImageWidth>4</tiff:ImageWidth><xap:Thumbnails><rdf:Alt><rdf:li>x</rdf:li></rdf:Alt>
</xap:Thumbnails></rdf:Description><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><tiff:Orientation>6
</tiff:Orientation></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("source", [b"", FULL, b"<x/>"], ids=["none", "full", "no RDF"])
def test_a_packet_leaves_nothing_for_the_collector(source: bytes) -> None:
    """Of thousands of pictures, what waits for it was most of what a batch's memory grew by."""
    _made(source)
    gc.collect()
    gc.disable()
    try:
        _made(source)
        left = gc.collect()
    finally:
        gc.enable()
    assert left == 0


def _made(source: bytes) -> None:
    try:
        assert packet(source, (8, 6), marked=True)
    except ValueError:
        assert source == b"<x/>"
