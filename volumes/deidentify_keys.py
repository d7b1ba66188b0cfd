"""Keyed pseudonyms: who holds the key gets the same pseudonym again, who does not cannot link anything.

Everything comes from HMAC-SHA256 (RFC 2104) under a secret key that is never written to the output: IDs, UIDs
(under 2.25, PS3.5 B.2), and one shift per patient, a whole number of weeks, so that every interval between two dates
of a patient and every day of the week stay what they were.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from volumes.volume import VolumeError

KEY_BYTES = 32
_FEWEST_KEY_BYTES = 16
_WEEKS = 521  # shifts lie between -1 and -521 weeks: up to 3,647 days, always into the past
_WELL_KNOWN = "1.2.840.10008."
_DA = re.compile(r"(\d{4})(\d\d)(\d\d)")
_OLD_DA = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)")  # ACR-NEMA wrote dots
_DT = re.compile(r"(\d{4})(\d\d)(\d\d)((?:\d\d){0,3}(?:\.\d{1,6})?(?:[+-]\d{4})?)")
_PARTIAL_DT = re.compile(r"\d{4}(?:\d\d)?(?:[+-]\d{4})?")
_TM = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d|60)?(?:\.\d{1,6})?)?|\d\d:\d\d:\d\d(?:\.\d{1,6})?")


def read_key(path: Path) -> bytes:
    """The key in a file, made with random bytes and mode 0600 when the file is absent. Keep it apart from the output.

    Raises: VolumeError ("bad-key") when the file is too short to be a key or others may read it.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _existing(path)
    except OSError as error:
        raise VolumeError(f"the key file {path.name} cannot be made: {error.strerror}", "bad-key") from error
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(KEY_BYTES) + "\n")
    return _existing(path)


def _existing(path: Path) -> bytes:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise VolumeError(
            f"the key file {path.name} has mode {mode:03o}: others may read it. Expected 600: chmod 600 it", "bad-key"
        )
    key = path.read_bytes().strip()
    if len(key) < _FEWEST_KEY_BYTES:
        raise VolumeError(
            f"the key file {path.name} holds {len(key)} bytes; expected at least {_FEWEST_KEY_BYTES}. Remove the file"
            " and a good key is made",
            "bad-key",
        )
    return key


@dataclass(frozen=True)
class Pseudonyms:
    """All that is derived from one key."""

    key: bytes = field(repr=False)

    def digest(self, kind: str, value: str) -> bytes:
        """32 bytes that only the holder of the key can make from a value."""
        return hmac.new(self.key, f"{kind}\x1f{value}".encode("utf-8", "surrogateescape"), hashlib.sha256).digest()

    def fingerprint(self) -> str:
        """Twelve hex digits that tell keys apart and give nothing of the key away."""
        return self.digest("fingerprint", "").hex()[:12]

    def identifier(self, kind: str, value: str) -> str:
        """Sixteen characters that stand for an ID of a kind ("patient", "accession", "study"); empty stays empty."""
        value = value.strip()
        return f"{kind[:1].upper()}{self.digest(kind, value).hex()[:15]}" if value else ""

    def uid(self, uid: str) -> str:
        """Another UID, always the same for this key. UIDs of the standard itself stay; so does an empty one."""
        uid = uid.strip("\0 ")
        if not uid or uid.startswith(_WELL_KNOWN):
            return uid
        number = int.from_bytes(self.digest("uid", uid)[:16], "big")
        return f"2.25.{number | (1 << 127)}"  # always 39 digits: no lengths to tell them apart

    def shift(self, patient: str) -> datetime.timedelta:
        """How far the dates of a patient move: whole weeks, 7 to 3,647 days into the past."""
        number = int.from_bytes(self.digest("dates", patient.strip())[:8], "big")
        return datetime.timedelta(weeks=-(1 + number % _WEEKS))


def shift_date(value: str, shift: datetime.timedelta) -> str | None:
    """A DA moved by whole days; None when it is no date."""
    found = _DA.fullmatch(value) or _OLD_DA.fullmatch(value)
    moved = moved_date(found[1], found[2], found[3], shift) if found else None
    return None if moved is None else f"{moved:%Y%m%d}".zfill(8)


def shift_datetime(value: str, shift: datetime.timedelta) -> str | None:
    """A DT moved by whole days, its time and zone as they were; None when it is none or names no day to move."""
    found = _DT.fullmatch(value)
    moved = moved_date(found[1], found[2], found[3], shift) if found else None
    if found is None or moved is None:
        return None
    return f"{moved:%Y%m%d}".zfill(8) + found[4]


def moved_date(year: str, month: str, day: str, shift: datetime.timedelta) -> datetime.date | None:
    """The date that lies `shift` after the given one; None for days that no calendar has."""
    try:
        return datetime.date(int(year), int(month), int(day)) + shift
    except (ValueError, OverflowError):
        return None


def is_time(value: str) -> bool:
    """Whether a TM holds a time and nothing else."""
    return _TM.fullmatch(value) is not None


def is_date(value: str) -> bool:
    """Whether a DA or DT holds a date that a calendar has, and nothing else."""
    found = _DA.fullmatch(value) or _OLD_DA.fullmatch(value) or _DT.fullmatch(value)
    if found is None:
        return _PARTIAL_DT.fullmatch(value) is not None
    return moved_date(found[1], found[2], found[3], datetime.timedelta()) is not None
