"""Reads one file of an archive into the line that the ledger keeps of it: what every engine does, in any process.

A line is JSON without names of fields; its order is that of `InstanceHeader`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from volumes.archive import ZIP_MARK, read_location
from volumes.errors import VolumeError
from volumes.instance import InstanceHeader, Refusal

Found = tuple[str, str]  # the study's UID and the line of a header; or "" and the line of a refusal
Look = Callable[[str], Found]

_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # uncompressed transfer syntaxes
_BELOW_A_BYTE = ("SEG",)  # modalities whose pixels may take one bit each
_TICK_S = 0.02  # longer than the clock tick of a file system on Linux
_OWN = ("path", "study_uid")  # kept beside the line
_NAMES = tuple(f.name for f in fields(InstanceHeader) if f.name not in _OWN)
_VALUES = attrgetter(*_NAMES)
_TUPLES = tuple(f.name for f in fields(InstanceHeader) if str(f.type).startswith("tuple"))
_TUPLE_PLACES = tuple(_NAMES.index(name) for name in _TUPLES)
# headers of another form than today's are not trusted: then every file is read again
FORMAT = "3 " + " ".join(_NAMES)


def look(location: str) -> Found:
    """The line of one file: its header, or why it was refused."""
    _settle(location)
    found = read_location(location)
    if isinstance(found, InstanceHeader):
        found = _truncated(found) or found
    return header_line(found) if isinstance(found, InstanceHeader) else refusal_line(found.reason, found.message)


def missing_by_index(location: str) -> list[Refusal]:
    """What a DICOMDIR lists and what is not there, or not below it."""
    from volumes.dicomdir import audit

    return list(audit(location))


def header_line(header: InstanceHeader) -> Found:
    """A header as the ledger keeps it."""
    return header.study_uid, json.dumps(_VALUES(header), ensure_ascii=False, separators=(",", ":"))


def refusal_line(reason: str, message: str) -> Found:
    """A refusal as the ledger keeps it."""
    return "", json.dumps((reason, message), ensure_ascii=False)


def error_line(error: VolumeError) -> Found:
    """What a reader that died, hung or grew too large leaves in the ledger."""
    return refusal_line(error.reason, str(error))


def load_header(location: str, study_uid: str, line: str) -> InstanceHeader:
    """A header from the ledger."""
    values: list[Any] = json.loads(line)
    for place in _TUPLE_PLACES:
        values[place] = tuple(values[place])
    return InstanceHeader(path=location, study_uid=study_uid, **dict(zip(_NAMES, values, strict=True)))


def _settle(location: str) -> None:
    """Wait until a file that was written this instant would show any later change in its times."""
    try:
        age = time.time() - os.stat(location.partition(ZIP_MARK)[0]).st_ctime
    except OSError:
        return  # reading it will say why
    if 0 <= age < _TICK_S:
        time.sleep(_TICK_S - age)


def _truncated(header: InstanceHeader) -> Refusal | None:
    """A file that is smaller than its own pixels. A lower bound: one byte per pixel, uncompressed only."""
    least = header.rows * header.columns * header.frames
    if header.transfer_syntax not in _PLAIN or header.modality in _BELOW_A_BYTE or header.size >= least:
        return None
    message = (
        f"instance {header.sop_uid}: the file holds {header.size} bytes, its {header.frames} x {header.rows} x"
        f" {header.columns} pixels need at least {least}; fetch it again from the archive"
    )
    return Refusal(header.path, "truncated-file", message)
