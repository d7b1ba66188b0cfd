"""A draft report: sentences with their evidence, their confidence and a verdict. Never more than a draft."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reports.evidence import Evidence, EvidenceKind, ImageExtent, unfollowable
from reports.findings import Finding, find
from reports.normality import implied_findings
from reports.passage import Passage
from reports.technique import HEADER_SECTIONS, judge_header
from reports.verdict import Grounds, Judgement, Measured, Rules, Verdict, judge
from volumes.volume import Region

__all__ = [
    "DRAFT_NOTICE",
    "SIMULATED_NOTICE",
    "Draft",
    "DraftSentence",
    "Evidence",
    "EvidenceKind",
    "ImageExtent",
    "ProposedSentence",
    "Rules",
    "Verdict",
    "dropped_notes",
    "ground",
]

DRAFT_NOTICE = "DRAFT for review by a radiologist. Not a diagnosis, not for clinical use."
SIMULATED_NOTICE = "SIMULATED: made from generated images. No number here says anything about real patients."


@dataclass(frozen=True)
class ProposedSentence:
    """A sentence somebody proposes, before anything has checked it.

    `findings` None means: read them from the text. `log_likelihood` and `blank_log_likelihood` are mean nats per token
    with the image and with a blank one; their difference shows how much the sentence owes to the image.
    """

    section: str
    text: str
    findings: tuple[Finding, ...] | None = None
    log_likelihood: float | None = None
    blank_log_likelihood: float | None = None
    evidence: tuple[Evidence, ...] = ()
    by: str = "model"


@dataclass(frozen=True)
class DraftSentence:
    """A checked sentence. `confidence` is the calibrated probability that it is true (the least over its findings),
    None when something in it has no probability. `reason` says why the verdict, `dropped` what evidence was refused."""

    section: str
    text: str
    findings: tuple[Finding, ...]
    evidence: tuple[Evidence, ...]
    confidence: float | None
    verdict: Verdict
    reason: str = ""
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A draft report of one study, with what made it (model, model_digest, preprocess_digest, experts, knowledge)."""

    study_uid: str
    series_uids: tuple[str, ...]
    modality: str
    sentences: tuple[DraftSentence, ...]
    made_by: Mapping[str, str]
    notes: tuple[str, ...] = ()
    simulated: bool = False
    extents: Mapping[str, ImageExtent] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, int]:
        """How many sentences have which verdict; all three are always there."""
        counts = Counter(sentence.verdict for sentence in self.sentences)
        return {verdict: counts[verdict] for verdict in ("supported", "unsupported", "contradicted")}


def ground(
    sentences: Sequence[ProposedSentence],
    diagnoses: Mapping[str, tuple[float, Region | None]],
    expert_findings: Sequence[Finding] = (),
    passages: Mapping[str, Sequence[Passage]] | None = None,
    *,
    measurements: Sequence[Measured] = (),
    header: Mapping[str, str] | None = None,
    extents: Mapping[str, ImageExtent] | None = None,
    thresholds: Mapping[str, float] | None = None,
    has_prior: bool = False,
    rules: Rules | None = None,
) -> tuple[DraftSentence, ...]:
    """Give every proposed sentence its evidence, confidence and verdict; evidence that leads nowhere is dropped.

    Args:
        diagnoses: Finding -> (calibrated probability in [0, 1] that it is present, its region or None).
        expert_findings: What experts say, `by` named, with side, size and region where they know.
        passages: Finding -> passages to cite where the sentence says that it is present.
        measurements: Numbers of experts with units; see `reports.verdict.SIGNS` for those that can decide.
        header: Words of the DICOM header and the order: modality, view, body_part, contrast, indication.
        extents: Images by SOP or series UID; regions outside are dropped. Empty: places are not checked.
        thresholds: Finding -> probability from which it counts as present, fitted on the validation split.
        has_prior: Whether a prior study was read; without one, no sentence about change is supported.

    Raises: ValueError when a probability lies outside [0, 1].
    """
    grounds = Grounds(
        diagnoses,
        tuple(expert_findings),
        tuple(measurements),
        thresholds or {},
        extents or {},
        header or {},
        has_prior,
        rules or Rules(),
    )
    return tuple(_ground_one(sentence, grounds, passages or {}) for sentence in sentences)


def dropped_notes(sentences: Iterable[DraftSentence]) -> tuple[str, ...]:
    """One note per reason for which evidence was dropped, with its count; for `Draft.notes`."""
    counts = Counter(reason for sentence in sentences for reason in sentence.dropped)
    return tuple(f"evidence dropped ({count}): {reason}" for reason, count in sorted(counts.items()))


def _ground_one(
    proposed: ProposedSentence, grounds: Grounds, passages: Mapping[str, Sequence[Passage]]
) -> DraftSentence:
    findings = find(proposed.text) if proposed.findings is None else proposed.findings
    if not findings:
        whole = (name for name in grounds.diagnoses if not name.startswith(("left ", "right ", "bilateral ")))
        findings = implied_findings(proposed.text, whole)
    if proposed.section in HEADER_SECTIONS:
        judgements: tuple[Judgement, ...] = (judge_header(proposed.section, proposed.text, grounds),)
        findings = ()  # an indication names what to look for, not what is seen
    else:
        judgements = tuple(judge(finding, grounds) for finding in findings)
    offered = (
        *proposed.evidence,
        *_likelihood(proposed),
        *(evidence for judgement in judgements for evidence in judgement.evidence),
        *_citations(findings, passages),
    )
    problems = {evidence: unfollowable(evidence, grounds.extents) for evidence in offered}
    kept = tuple(evidence for evidence, problem in problems.items() if problem is None)
    dropped = tuple(problem for problem in problems.values() if problem is not None)
    verdict, reason, confidence = _combine(proposed, judgements, kept)
    return DraftSentence(proposed.section, proposed.text, findings, kept, confidence, verdict, reason, dropped)


def _combine(
    proposed: ProposedSentence, judgements: Sequence[Judgement], evidence: Sequence[Evidence]
) -> tuple[Verdict, str, float | None]:
    """The verdict of a sentence is that of its worst claim, its confidence that of its least sure one."""
    if not judgements:
        if proposed.section == "recommendation" and any(e.kind == "passage" for e in evidence):
            return "supported", "advice with a passage to follow; the image does not prove it", None
        return "unsupported", "states no finding that can be checked", None
    known = [judgement.confidence for judgement in judgements if judgement.confidence is not None]
    confidence = min(known) if len(known) == len(judgements) else None
    verdicts: tuple[Verdict, ...] = ("contradicted", "unsupported", "supported")
    worst = next(verdict for verdict in verdicts if any(j.verdict == verdict for j in judgements))
    reasons = dict.fromkeys(judgement.reason for judgement in judgements if judgement.verdict == worst)
    return worst, "; ".join(reasons), confidence


def _likelihood(proposed: ProposedSentence) -> tuple[Evidence, ...]:
    if proposed.log_likelihood is None:
        return ()
    said = f"log-likelihood {proposed.log_likelihood:.2f} nat per token"
    if proposed.blank_log_likelihood is None:
        return (Evidence("image-support", said, None, proposed.log_likelihood, "nat", by=proposed.by),)
    gain = proposed.log_likelihood - proposed.blank_log_likelihood
    text = f"{said}, {gain:+.2f} against a blank image"
    return (Evidence("image-support", text, None, gain, "nat", by=proposed.by),)


def _citations(findings: Sequence[Finding], passages: Mapping[str, Sequence[Passage]]) -> tuple[Evidence, ...]:
    """Passages about what is said to be there; what is absent needs no explanation."""
    return tuple(
        Evidence("passage", passage.citation(), passage=passage, by=passage.source)
        for name in dict.fromkeys(finding.name for finding in findings if finding.status != "absent")
        for passage in passages.get(name, ())
    )
