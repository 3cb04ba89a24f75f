"""The report of a batch as CI servers read it: JUnit's XML, a test case for each output."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from .report import FAILED, LEFT, STALE, UNCHANGED, Line, Report, clean

MARK = b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- sdedit batch report -->\n'


def pieces(report: Report, base: str) -> Iterator[bytes]:
    """The bytes of the file, in pieces. Of a check, what is fresh has passed; of a run, what is unchanged is skipped.

    `base` is the folder of the report, of which nothing is said here.
    """
    seconds = sum(line.seconds for line in report.lines)
    counts = report.counts
    skipped = counts.get(LEFT, 0) + (0 if report.checked else counts.get(UNCHANGED, 0))
    suite = ElementTree.Element(
        "testsuite",
        name="sdedit batch --check" if report.checked else "sdedit batch",
        tests=str(len(report.lines)),
        failures=str(counts.get(FAILED, 0) + counts.get(STALE, 0)),
        errors="0",
        skipped=str(skipped),
        time=f"{seconds:.3f}",
    )
    suite.extend(_case(report, line) for line in report.lines)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    yield MARK
    yield ElementTree.tostring(root, encoding="utf-8") + b"\n"


def _case(report: Report, line: Line) -> ElementTree.Element:
    folder, _, name = line.name.rpartition("/")
    case = ElementTree.Element(
        "testcase",
        classname=clean((report.folder / folder).as_posix()),
        name=clean(name or "job"),
        time=f"{line.seconds:.3f}",
    )
    reason = clean(line.reason)
    if line.state in (FAILED, STALE):
        failure = ElementTree.SubElement(case, "failure", type=clean(line.word or line.state), message=reason)
        failure.text = clean("\n".join(filter(None, (line.reason, line.source and f"input: {line.source}"))))
    elif line.state == LEFT:
        ElementTree.SubElement(case, "skipped", message=f"left for another time: {reason}")
    elif line.state == UNCHANGED and not report.checked:
        ElementTree.SubElement(case, "skipped", message="unchanged")
    return case
