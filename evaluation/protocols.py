"""The door to all protocols: questions to a model that an accuracy does not answer, each with a verdict and its rule.

| question | function |
|---|---|
| Of two images that differ in one finding, which has it? | paired_images, paired_answers |
| When the image is edited, does the right answer follow? | before_after, moved_sides |
| Is the image looked at? | blind, blind_answers |
| Does text overrule the image? | text_bias |
| Do wording and order decide? | prompt_wording, option_order |
| Is a look-alike taken for the finding? | look_alike |
| Are new combinations of known parts understood? | compositional_split, compositional_gap |
| Which of two models is better when both are tuned alike? | head_to_head |
"""

from evaluation.protocol_contest import Contender, Studies, head_to_head
from evaluation.protocol_findings import (
    LOOK_ALIKES,
    CompositionalSplit,
    compositional_gap,
    compositional_split,
    look_alike,
)
from evaluation.protocol_outcome import Outcome, Verdict
from evaluation.protocol_pairs import Edits, before_after, moved_sides, paired_answers, paired_images
from evaluation.protocol_text import blind, blind_answers, text_bias
from evaluation.protocol_wording import circular_orders, option_order, prompt_wording

__all__ = [
    "LOOK_ALIKES", "CompositionalSplit", "Contender", "Edits", "Outcome", "Studies", "Verdict", "before_after", "blind",
    "blind_answers", "circular_orders", "compositional_gap", "compositional_split", "head_to_head", "look_alike",
    "moved_sides", "option_order", "paired_answers", "paired_images", "prompt_wording", "text_bias",
]  # fmt: skip
