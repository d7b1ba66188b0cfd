"""Contrast and captioning in one: a small decoder must write the report that the contrast only recognises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlm.encoders import ImageTokens
from medvlm.objective_inputs import Extras, Words, take
from medvlm.objectives import WholePairs
from medvlm.whole_batch import mean_of_all


class CaptionDecoder(nn.Module):
    """Predicts each word of a report from the words before it and from the tokens of the image.

    Args:
        vocabulary: Rows of the embedding; as of the text tower.
        embed: Width of the image tokens.
        width: Hidden size.
        depth: Layers.
        heads: Attention heads.
        length: Longest report, in tokens.
    """

    def __init__(
        self, vocabulary: int, embed: int, width: int = 128, depth: int = 2, heads: int = 4, length: int = 128
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.begin = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        self.see = nn.Linear(embed, width)
        layer = nn.TransformerDecoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerDecoder(layer, depth)
        self.say = nn.Linear(width, vocabulary)

    def forward(self, local: Tensor, ids: Tensor) -> Tensor:
        """Logits of the word at each place, which sees only the places before it.

        Shapes: local (B, N, E), ids (B, T) -> (B, T, vocabulary).
        Raises: ValueError for more tokens than `length`.
        """
        places = ids.shape[1]
        if places > len(self.position):
            raise ValueError(
                f"a report of {places} tokens, the decoder takes {len(self.position)}; raise objective.length or lower"
                " text.length in the recipe"
            )
        before = torch.cat([self.begin.expand(len(ids), 1, -1), self.words(ids[:, :-1])], 1)
        later = torch.ones(places, places, dtype=torch.bool, device=ids.device).triu(1)
        hidden = self.layers(before + self.position[:places], self.see(local), tgt_mask=later)
        return self.say(hidden)


class ContrastAndCaption(WholePairs):
    """InfoNCE of pairs, and the cost of writing each report from its image.

    After CoCa, Yu et al. 2022, arXiv:2205.01917, equation 4, with a decoder of its own in place of the upper half of
    the text tower and attention to all tokens in place of its pooler (level L1). As in the paper, the contrast weighs 1
    and the caption 2.

    Args:
        vocabulary: Rows of the decoder's embedding; as of the text tower.
        embed: Width of the image tokens.
        width: Hidden size of the decoder.
        depth: Layers of the decoder.
        heads: Attention heads of the decoder.
        length: Longest report, in tokens; as of the text tower.
        caption_weight: Weight of captioning.
        contrast_weight: Weight of InfoNCE; 0 is captioning alone (Cap, Tschannen et al. 2023, arXiv:2306.07915).
        temperature: Initial temperature of InfoNCE.
    """

    wants = ("words",)

    def __init__(
        self,
        vocabulary: int,
        embed: int,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        length: int = 128,
        caption_weight: float = 2.0,
        contrast_weight: float = 1.0,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(1 / temperature)
        self.caption_weight, self.contrast_weight = caption_weight, contrast_weight
        self.decoder = CaptionDecoder(vocabulary, embed, width, depth, heads, length)

    def forward(
        self, image: ImageTokens, text: Tensor, target: Tensor, kin: Tensor, extras: Extras | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss () in nats and its parts; takes `extras.words`, whose ids are what is written: nats per word."""
        words: Words = take(extras, "words", self)
        logits = self.decoder(image.local, words.ids)
        cost = F.cross_entropy(logits.flatten(0, 1), words.ids.flatten(), reduction="none")
        caption = mean_of_all(cost, words.mask.flatten())
        loss, parts = self.caption_weight * caption, {"caption": caption.detach()}
        if self.contrast_weight:
            nce = self.info_nce(image.whole, text)
            loss, parts = loss + self.contrast_weight * nce, {**parts, "info_nce": nce.detach()}
        return loss, parts
