"""Does a sentence say what the image, the experts and the header say? One claim at a time, with the reason in words.

Contradiction wins over support: two sources that disagree are a reason for a radiologist to look, not a draw.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from reports.evidence import Evidence, ImageExtent, extent_of, side_of
from reports.findings import Finding
from volumes.volume import Region

Verdict = Literal["supported", "unsupported", "contradicted"]


class Measured(Protocol):
    """A number an expert measured in the image. `uncertainty` is one standard deviation, in `unit`."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def unit(self) -> str: ...
    @property
    def uncertainty(self) -> float | None: ...
    @property
    def region(self) -> Region | None: ...
    @property
    def by(self) -> str: ...


@dataclass(frozen=True)
class Rules:
    """Limits of a verdict: probabilities in [0, 1], sizes in mm.

    A claim of presence is contradicted below `low`, a claim of absence above `high`. A claimed size is contradicted
    when it differs from a measured one by more than `size_mm` and by more than `size_share` of the measured one.
    """

    threshold: float = 0.5
    low: float = 0.15
    high: float = 0.85
    size_mm: float = 3.0
    size_share: float = 0.3


@dataclass(frozen=True)
class Sign:
    """A measurement that speaks about a finding: present above `limit`, absent below it, by SIGMAS uncertainties.

    `view` is the only view it may decide in (elsewhere it is shown and decides nothing); empty for any image.
    """

    finding: str
    pattern: str
    unit: str
    limit: float
    source: str
    view: str = ""


KINDS = {
    "lung opacity": ("consolidation", "atelectasis", "lung nodule", "lung mass", "pulmonary edema", "pneumonia"),
    "enlarged cardiomediastinum": ("cardiomegaly",),
    "fracture": ("rib fracture",),
    "infiltrate": ("consolidation", "pneumonia"),
    "hyperinflation": ("emphysema",),
    "pulmonary vascular congestion": ("pulmonary edema",),
}
"""A finding that nobody gave a probability for is at least as likely as its likeliest kind or cause.
Source: the hierarchy of Irvin et al. 2019, CheXpert, arXiv:1901.07031, figure 1; the last three are ours."""

SIGMAS = 2.0
"""How many standard deviations a measurement must lie beyond a limit to say anything: about 95 %."""

SIGNS = (
    Sign("cardiomegaly", r"cardio-?thoracic ratio", "1", 0.50, "Danzer 1919", "PA"),
    Sign(
        "pleural effusion",
        r"(effusion|pleural fluid).*",
        "ml",
        15.0,
        "above the physiologic film of fluid, Noppen 2000",
    ),
)


@dataclass(frozen=True)
class Grounds:
    """All that is known about the image when its sentences are judged.

    `diagnoses`: finding name (or "left pleural effusion" style) -> calibrated probability of presence and its region.
    `thresholds`: probability from which the finding counts as present. `extents`: images by SOP or series UID.
    `header`: words from the DICOM header (modality, view, body_part, contrast, indication).
    """

    diagnoses: Mapping[str, tuple[float, Region | None]]
    experts: Sequence[Finding] = ()
    measurements: Sequence[Measured] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    extents: Mapping[str, ImageExtent] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    has_prior: bool = False
    rules: Rules = Rules()


@dataclass(frozen=True)
class Judgement:
    """Verdict on one claim. `confidence` is the calibrated probability that the claim is true, None when unknown."""

    verdict: Verdict
    reason: str
    confidence: float | None = None
    evidence: tuple[Evidence, ...] = ()


def judge(claim: Finding, grounds: Grounds) -> Judgement:
    """Weigh one claimed finding against probabilities, expert findings and measurements."""
    belief = _believed(claim, grounds)
    weigh = _Weigh(claim, grounds)
    if belief is not None:
        weigh.probability(belief)
    for finding in grounds.experts:
        is_kind = finding.name in KINDS.get(claim.name, ()) and finding.status == "present"
        if finding.name == claim.name or is_kind:
            weigh.expert(finding)
    for measured in grounds.measurements:
        weigh.measurement(measured)
    weigh.details()
    confidence = None if belief is None else (1 - belief.p if claim.status == "absent" else belief.p)
    return weigh.judgement(confidence)


@dataclass(frozen=True)
class _Belief:
    """Probability that a finding is present: of which finding, where, and whether about the claimed side only."""

    name: str
    p: float
    region: Region | None
    sided: bool


def _believed(claim: Finding, grounds: Grounds) -> _Belief | None:
    own = _of(claim.name, claim, grounds)
    if own is not None:
        return own
    kinds = [belief for kind in KINDS.get(claim.name, ()) if (belief := _of(kind, claim, grounds)) is not None]
    return max(kinds, key=lambda belief: belief.p, default=None)


def _of(name: str, claim: Finding, grounds: Grounds) -> _Belief | None:
    left, right = (grounds.diagnoses.get(f"{each} {name}") for each in ("left", "right"))
    if claim.side == "bilateral" and left is not None and right is not None:
        weakest = max if claim.status == "absent" else min  # both sides are as sure as the less sure one
        return _Belief(name, weakest(left[0], right[0]), left[1] or right[1], True)
    sided = {"left": left, "right": right}.get(claim.side or "")
    found = sided or grounds.diagnoses.get(name)
    return None if found is None else _Belief(name, found[0], found[1], sided is not None)


class _Weigh:
    """Collects what speaks for, against and in doubt of one claim."""

    def __init__(self, claim: Finding, grounds: Grounds) -> None:
        self.claim, self.grounds = claim, grounds
        self.agrees: list[str] = []
        self.opposes: list[str] = []
        self.doubts: list[str] = []
        self.evidence: list[Evidence] = []
        self.sized = False

    def probability(self, belief: _Belief) -> None:
        p, region = belief.p, belief.region
        if not 0.0 <= p <= 1.0:
            raise ValueError(
                f"probability of {belief.name!r} is {p:g}; expected a calibrated probability in [0, 1], not a logit"
            )
        claim, rules = self.claim, self.grounds.rules
        threshold = self.grounds.thresholds.get(belief.name, rules.threshold)
        said = f"probability of {belief.name} {p:.2f}"
        self.evidence.append(Evidence("image-support", f"{said}, threshold {threshold:.2f}", None, p, "1", by="model"))
        where = None if region is None else side_of(region, self.grounds.extents)
        if claim.status == "absent":
            elsewhere = claim.side in ("left", "right") and not belief.sided and where != claim.side
            if p > max(rules.high, threshold):
                (self.doubts if elsewhere else self.opposes).append(said)
            elif p < threshold:
                self.agrees.append(said)
            return
        if region is not None and p >= min(rules.low, threshold):  # a place of something unlikely would mislead
            text = f"most likely place of {belief.name}"
            self.evidence.append(Evidence("region", text, region, region.score, "1", by="model"))
        if claim.status == "uncertain":
            (self.agrees if p >= rules.low else self.doubts).append(said)
        elif p >= threshold:
            self.agrees.append(said)
        elif p < min(rules.low, threshold):
            self.opposes.append(said)
        if _opposite(claim.side, where):
            self.doubts.append(f"says {claim.side}, the region lies on the {where}")

    def expert(self, found: Finding) -> None:
        claim, by = self.claim, found.by or "expert"
        side = found.side or (side_of(found.region, self.grounds.extents) if found.region is not None else None)
        place = f" on the {side}" if side in ("left", "right") else ""
        said = f"{by}: {found.name} {found.status}{place}"
        self._expert_evidence(found, said)
        if found.status == "uncertain":
            return
        if _opposite(claim.side, side):
            others = (f for f in self.grounds.experts if f.name == claim.name and f.status == "present")
            alone = all(_opposite(claim.side, f.side) for f in others)
            if claim.status == "present" and found.status == "present" and alone:
                self.opposes.append(said)
            return
        if claim.status == "uncertain":
            (self.agrees if found.status == "present" else self.doubts).append(said)
            return
        (self.agrees if found.status == claim.status else self.opposes).append(said)
        if claim.status == found.status == "present":
            self._size(found.size_mm, by)

    def _expert_evidence(self, found: Finding, said: str) -> None:
        by = found.by or "expert"
        self.evidence.append(
            Evidence("image-support", said, None, found.score, "1" if found.score is not None else None, by=by)
        )
        if found.region is not None and found.status != "absent":
            self.evidence.append(Evidence("region", said, found.region, found.score, "1", by=by))
        if found.size_mm is not None:
            self.evidence.append(
                Evidence("measurement", f"{found.name} size", found.region, found.size_mm, "mm", by=by)
            )

    def _size(self, measured_mm: float | None, by: str) -> None:
        claimed_mm = self.claim.size_mm
        if claimed_mm is None or measured_mm is None:
            return
        self.sized = True
        limit = max(self.grounds.rules.size_mm, self.grounds.rules.size_share * measured_mm)
        if abs(claimed_mm - measured_mm) > limit:
            self.opposes.append(f"says {claimed_mm:g} mm, {by} measured {measured_mm:g} mm")

    def measurement(self, measured: Measured) -> None:
        name = measured.name.lower().replace("_", " ")
        sign = next((s for s in SIGNS if s.finding == self.claim.name and re.search(s.pattern, name)), None)
        if sign is None:
            return
        side = next((s for s in ("left", "right") if re.search(rf"\b{s}\b", name)), None)
        if _opposite(self.claim.side, side):
            return
        spread = measured.uncertainty or 0.0
        unit = "" if measured.unit == "1" else f" {measured.unit}"
        text = f"{measured.name} {measured.value:.3g} ± {spread:.2g}{unit}, limit {sign.limit:g} ({sign.source})"
        self.evidence.append(
            Evidence("measurement", text, measured.region, measured.value, measured.unit, by=measured.by)
        )
        extent = None if measured.region is None else extent_of(measured.region, self.grounds.extents)
        if sign.view and (extent is None or extent.view != sign.view):
            return  # another projection magnifies: the expert who measured it may know, this rule does not
        if measured.unit != sign.unit:
            self.doubts.append(f"{measured.name} is in {measured.unit or 'no unit'}, expected {sign.unit}")
            return
        said = f"{measured.by or 'expert'}: {measured.name} {measured.value:.3g}{unit}"
        if measured.value - SIGMAS * spread > sign.limit:
            status = "present"
        elif measured.value + SIGMAS * spread < sign.limit and (side is None or side == self.claim.side):
            status = "absent"
        else:
            return
        if self.claim.status == status:
            self.agrees.append(said)
        else:
            (self.doubts if self.claim.status == "uncertain" and status == "absent" else self.opposes).append(said)

    def details(self) -> None:
        """What a sentence adds to a finding must come from somewhere: a size from a ruler, a change from a prior."""
        claimed_mm = self.claim.size_mm
        if claimed_mm is not None and self.claim.status == "present" and not self.sized:
            self.doubts.append(f"says {claimed_mm:g} mm, but nothing measured it")
        if self.claim.change is not None and not self.grounds.has_prior:
            self.doubts.append(f"states a change ({self.claim.change}), but no prior study was read")

    def judgement(self, confidence: float | None) -> Judgement:
        evidence = tuple(self.evidence)
        if self.opposes:
            against = "; ".join(self.opposes)
            rest = f" (for it: {'; '.join(self.agrees)})" if self.agrees else ""
            return Judgement("contradicted", f"{self.claim.name}: {against}{rest}", confidence, evidence)
        if self.doubts:
            return Judgement("unsupported", f"{self.claim.name}: {'; '.join(self.doubts)}", confidence, evidence)
        if self.agrees:
            return Judgement("supported", f"{self.claim.name}: {'; '.join(self.agrees)}", confidence, evidence)
        reason = "not clear enough either way" if evidence else "nothing that looked at the image speaks about it"
        return Judgement("unsupported", f"{self.claim.name}: {reason}", confidence, evidence)


def _opposite(a: str | None, b: str | None) -> bool:
    return {a, b} == {"left", "right"}
