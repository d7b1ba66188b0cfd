"""De-identification of an archive: every file becomes a clean copy or is quarantined with a reason; none is lost.

DICOM by PS3.15 Annex E (see deidentify_dataset.py), NIfTI, NRRD, PNG and JPEG by their own rules. The output holds new
names only. `audit.jsonl` says per file what was done, without a value of the original; `audit.txt` sums it up. Nobody
can link input and output without the key, so keep the key apart from the output, and both apart from the archive.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from volumes.archive import ZIP_MARK, file_format, locations, read_bytes
from volumes.deidentify_audit import Audit, FileRecord, Status
from volumes.deidentify_keys import KEY_BYTES, Pseudonyms, read_key
from volumes.deidentify_profile import Profile
from volumes.instance import Refusal
from volumes.volume import VolumeError

AUDIT, SUMMARY = "audit.jsonl", "audit.txt"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_OTHERS = "files"  # folder of what is no DICOM
_NEVER_READ = "never read"


@dataclass(frozen=True)
class Options:
    """How to de-identify. Without a key file a key is made up and forgotten: then nothing can be linked, ever."""

    profile: Profile = field(default_factory=Profile)
    key: Path | None = None
    ocr: bool = False
    workers: int = 2  # 0 cleans in this process, without bounds on time and memory
    seconds: float = 120.0  # for one file, in a worker that may die
    memory_bytes: int = 4 * 2**30  # for one file


@dataclass(frozen=True)
class _Job:
    location: str = field(repr=False)
    input: str
    out: str
    profile: Profile
    key: bytes = field(repr=False)
    ocr: bool


def deidentify(paths: Iterable[Path | str], out: Path, options: Options | None = None) -> Audit:
    """Write a de-identified copy of all files below `paths` (folders, files, zips) into `out`.

    A run that was stopped goes on where it was, given the same key: what its audit names as done is not read again.
    Raises: VolumeError ("bad-key", "other-key", "other-options", "no-ocr", "inside-archive") when the call is wrong.
    """
    from tqdm import tqdm

    options = options or Options()
    sources = [Path(path) for path in paths]
    _check_place(sources, out)
    if options.ocr:
        from volumes.deidentify_ocr import check_ocr

        check_ocr()
    key = read_key(options.key) if options.key else secrets.token_hex(KEY_BYTES).encode()
    pseudonyms = Pseudonyms(key)
    out.mkdir(parents=True, exist_ok=True)
    for part in out.rglob(".part-*"):  # of a run that was killed
        part.unlink(missing_ok=True)
    done = _records_before(out, pseudonyms, options)
    records: list[FileRecord] = []
    refused: list[tuple[str, str]] = []
    skipped: list[FileRecord] = []
    jobs = _jobs(sources, out, options, pseudonyms, done, skipped, refused, records)
    with (
        (out / AUDIT).open("a", encoding="utf-8") as audit,
        tqdm(desc="de-identify", unit="file", disable=None) as bar,
    ):
        for job, found in _results(jobs, options):
            if isinstance(found, VolumeError):
                found = FileRecord(job.input, "quarantined", found.reason, profile=_profile_name(options))
            if found.status == "quarantined":
                refused.append((job.location, found.reason))
            records.append(found)
            audit.write(json.dumps(asdict(found)) + "\n")
            audit.flush()
            bar.update()
        for record in records:
            if record.pixels == _NEVER_READ:
                audit.write(json.dumps(asdict(record)) + "\n")
    result = Audit(out, (*skipped, *records), tuple(refused), len(skipped))
    (out / SUMMARY).write_text(result.text().replace(str(out), "."), encoding="utf-8")
    return result


def _results(jobs: Iterator[_Job], options: Options) -> Iterator[tuple[_Job, FileRecord | VolumeError]]:
    if not options.workers:
        for job in jobs:
            yield job, _work(job)
        return
    from volumes.isolation import Workers

    with Workers(_work, options.workers, options.seconds, options.memory_bytes, chunk=4) as pool:
        yield from pool.map(jobs)


def _check_place(sources: list[Path], out: Path) -> None:
    for source in sources:
        if out.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(out.resolve()):
            raise VolumeError(
                "the output folder and the archive lie in one another; choose a folder apart from it", "inside-archive"
            )


def _jobs(
    sources: list[Path],
    out: Path,
    options: Options,
    pseudonyms: Pseudonyms,
    done: dict[str, FileRecord],
    skipped: list[FileRecord],
    refused: list[tuple[str, str]],
    records: list[FileRecord],
) -> Iterator[_Job]:
    """One job per file that is not done yet; what cannot even be opened goes to the records at once."""
    for location in locations(sources):
        where = location.where if isinstance(location, Refusal) else location
        name = pseudonyms.digest("input", _stamp(where)).hex()[:24]
        if name in done:
            skipped.append(done[name])
        elif isinstance(location, Refusal):
            record = FileRecord(
                name, "quarantined", location.reason, pixels=_NEVER_READ, profile=_profile_name(options)
            )
            records.append(record)
            refused.append((location.where, location.reason))
        else:
            yield _Job(location, name, str(out), options.profile, pseudonyms.key, options.ocr)


def _stamp(location: str) -> str:
    """Where a file lies, how large it is and when it was changed."""
    path = Path(location.partition(ZIP_MARK)[0] if ZIP_MARK in location else location)
    try:
        status = path.stat()
    except OSError:
        return location
    return f"{path.resolve()}\x1f{location}\x1f{status.st_size}\x1f{status.st_mtime_ns}"


def _profile_name(options: Options) -> str:
    """A short name of everything that decides what the output looks like."""
    chosen = json.dumps([asdict(options.profile), options.ocr], sort_keys=True)
    return hashlib.sha256(chosen.encode()).hexdigest()[:12]


def _records_before(out: Path, pseudonyms: Pseudonyms, options: Options) -> dict[str, FileRecord]:
    """What earlier runs with this key and profile have done, by input. Raises VolumeError for another one."""
    mark = out / ".deidentified"
    now = f"{pseudonyms.fingerprint()} {_profile_name(options)}"
    before = mark.read_text(encoding="ascii").strip() if mark.exists() else now
    if before.split()[0] != now.split()[0]:
        raise VolumeError(
            f"{out} was begun with another key, so its pseudonyms would not agree with those of this run. Give the key"
            " of that run (--key), or another folder",
            "other-key",
        )
    if before != now:
        raise VolumeError(
            f"{out} was begun with other options, and one folder holds one kind of copy: give the options of that run,"
            " or another folder",
            "other-options",
        )
    mark.write_text(now + "\n", encoding="ascii")
    found: dict[str, FileRecord] = {}
    audit = out / AUDIT
    if not audit.exists():
        return found
    text = audit.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):  # a run was stopped in the middle of a line
        text = text[: text.rfind("\n") + 1]
        audit.write_text(text, encoding="utf-8")
    for line in text.splitlines():
        record = FileRecord(**json.loads(line))
        record_out = out / record.output
        if record.profile == _profile_name(options) and (not record.output or record_out.is_file()):
            found[record.input] = record
    return found


def _work(job: _Job) -> FileRecord:
    """Clean one file and write it; runs in a worker."""
    options = Options(profile=job.profile, ocr=job.ocr)
    common: dict[str, Any] = {"input": job.input, "profile": _profile_name(options)}
    pseudonyms = Pseudonyms(job.key)
    try:
        data = read_bytes(job.location)
        common["digest"] = pseudonyms.digest("bytes", hashlib.sha256(data).hexdigest()).hex()[:24]
        cleaned, place, facts = _clean(data, job, pseudonyms, common["digest"])
    except VolumeError as error:
        return FileRecord(status="quarantined", reason=error.reason, **common)
    status, output = _write(Path(job.out), place, cleaned)
    return FileRecord(status=status, output=output, **common, **facts)


def _clean(data: bytes, job: _Job, pseudonyms: Pseudonyms, digest: str) -> tuple[bytes, Path, dict[str, Any]]:
    """(bytes, place below the output folder, facts for the audit) of one file."""
    form = file_format(job.location.rpartition(ZIP_MARK)[2])
    look = job.profile.pixels
    if form is None:
        return _clean_dicom(data, job, pseudonyms)
    from volumes.deidentify_files import clean_nifti, clean_nrrd, clean_picture

    named = Path(_OTHERS) / pseudonyms.digest("file", digest).hex()[:24]
    if form == "nifti":
        cleaned = clean_nifti(data)
        suffix = ".nii.gz" if cleaned[:2] == b"\x1f\x8b" else ".nii"
        return cleaned, named.with_suffix(suffix), {"actions": {"texts removed": 1}, "pixels": "not checked"}
    if form == "nrrd":
        return clean_nrrd(data), named.with_suffix(".nrrd"), {"actions": {"texts removed": 1}, "pixels": "not checked"}
    if form != "picture":
        raise VolumeError(f"files of the format {form} are not de-identified here", "format")
    cleaned, suffix, boxes = clean_picture(data, look=look, ocr=job.ocr)
    return (
        cleaned,
        named.with_suffix(suffix),
        {
            "actions": {"texts removed": 1},
            "blanked": boxes,
            "pixels": "checked" if look else "not checked",
        },
    )


def _clean_dicom(data: bytes, job: _Job, pseudonyms: Pseudonyms) -> tuple[bytes, Path, dict[str, Any]]:
    from volumes.deidentify_burned_in import clean_pixels
    from volumes.deidentify_dataset import deidentify_dataset
    from volumes.header import open_dataset

    source = open_dataset(io.BytesIO(data))
    cleaned, cleaning = deidentify_dataset(source, job.profile, pseudonyms)
    pixels = clean_pixels(source, cleaned, look=job.profile.pixels, ocr=job.ocr)
    stream = io.BytesIO()
    try:
        cleaned.save_as(stream, enforce_file_format=True)
    except Exception as error:  # a value that pydicom could read and cannot write
        raise VolumeError(f"the cleaned file cannot be written: {type(error).__name__}", "not-writable") from error
    names = [_folder_name(cleaned, name, pseudonyms) for name in ("StudyInstanceUID", "SeriesInstanceUID")]
    instance = str(cleaned.file_meta.MediaStorageSOPInstanceUID)
    instance = instance if _UID.fullmatch(instance) else pseudonyms.uid(instance)
    said = ["checked" if pixels.checked else "not checked"]
    said += ["blanked outside of regions"] if pixels.outside_regions else []
    said += ["comments removed"] if pixels.comments else []
    said += ["hidden bits or bytes removed"] if pixels.hidden_bits else []
    facts = {
        "actions": dict(cleaning.actions),
        "odd": dict(cleaning.odd),
        "blanked": pixels.boxes,
        "pixels": ", ".join(said) if "PixelData" in cleaned else "",
    }
    return stream.getvalue(), Path(names[0]) / names[1] / f"{instance}.dcm", facts


def _folder_name(dataset: Any, name: str, pseudonyms: Pseudonyms) -> str:
    """A UID that is safe as a folder: files lie about theirs."""
    uid = str(dataset.get(name) or "")
    return uid if _UID.fullmatch(uid) and len(uid) <= 64 else pseudonyms.uid(f"no {name} {uid}")


def _write(out: Path, place: Path, data: bytes) -> tuple[Status, str]:
    """Write once, whole or not at all. Same name and bytes: a duplicate. Same name, other bytes: a second name."""
    second = place.with_name(f"{place.stem}-{hashlib.sha256(data).hexdigest()[:8]}{place.suffix}")
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    part = (out / place).with_name(f".part-{secrets.token_hex(8)}")
    try:
        part.write_bytes(data)
        for name in (place, second):
            with suppress(FileExistsError):
                os.link(part, out / name)
                return "written", str(name)
            if (out / name).read_bytes() == data:
                return "duplicate", str(name)
    finally:
        part.unlink(missing_ok=True)
    return "duplicate", str(second)
