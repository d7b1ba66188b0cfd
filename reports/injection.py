"""Text that reads like orders to a language model, as planted in documents that such a model may be shown.

After the pattern described by Greshake et al. 2023 (arXiv:2302.12173, indirect prompt injection). A match proves
nothing and removes nothing: the passage stays as it is, carries a flag, and is only ever quoted.
"""

from __future__ import annotations

import re

_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b[^.;:\n]{0,40}\b(?:previous|prior|above|earlier|preceding|system|safety"
    r"|your|all)\b[^.;:\n]{0,30}\b(?:instructions?|prompts?|rules?|guidelines?|messages?|directions?|context)\b"
    r"|\byou are (?:now |no longer )?(?:an? )?(?:helpful |new |different )?(?:ai\b|a\.i\.|assistant|chat ?bot"
    r"|language model|llm|gpt|dan\b)"
    r"|\b(?:system|developer) (?:prompt|message)s?\b|\bjailbreak|\bprompt injection"
    r"|<\|[a-z_]{2,20}\|>|\[/?INST\]|<</?SYS>>|^\s*(?:#+ *)?(?:system|assistant|user) *:\s*\S"
    r"|^\s*#+ *(?:new )?instructions? *:?\s*$|\bnew instructions? *:"
    r"|\b(?:as|attention) (?:an? )?(?:ai|language|vision-language) (?:model|assistant)s?\b"
    r"|\b(?:do not|don't|never) (?:tell|inform|warn|alert|mention (?:this|it) to) (?:the )?(?:user|radiologist|reader"
    r"|clinician|doctor)"
    r"|\b(?:always|only) (?:answer|respond|reply|output|report|write)\b[^.\n]{0,30}\b(?:normal|no findings?"
    r"|unremarkable|with the (?:word|phrase)|yes|exactly)\b"
    r"|\breveal (?:your|the) (?:instructions?|prompt|training data)",
    re.IGNORECASE | re.MULTILINE,
)


def looks_like_instructions(text: str) -> bool:
    """Whether a text speaks to a language model rather than to a reader."""
    return _ORDERS.search(text) is not None
