"""Objectives of words, regions, streams, parts and captions, against cases worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medvlm.encoders import ImageTokens
from medvlm.objective_inputs import Extras, Phrases, Regions, Slow, Streams, Words
from medvlm.objectives import PairInfoNCE, PairSigmoid, SentencePairs
from medvlm.objectives_caption import CaptionDecoder, ContrastAndCaption
from medvlm.objectives_distillation import LocalToGlobal
from medvlm.objectives_regions import RegionPairs, RegionPhrases, TwoStreams, region_vectors
from medvlm.objectives_words import SparseWords, WordPatches, sparse_grouping, word_matching

NONE = torch.zeros(0)
E2 = torch.eye(2)
NAN = math.nan


def words(vectors: Tensor, mask: Tensor | None = None, ids: Tensor | None = None) -> Words:
    mask = torch.ones(vectors.shape[:2]) if mask is None else mask
    return Words(vectors, mask, torch.zeros(vectors.shape[:2], dtype=torch.long) if ids is None else ids)


# ---- words and tokens


def test_a_word_takes_the_tokens_that_resemble_it() -> None:
    """One word e1, tokens e1 and e2: weights e^4 and 1, mean (a, b), cosine a / |(a, b)|."""
    fit = word_matching(E2[None], words(torch.tensor([[[3.0, 0.0]]])), sharpness=4.0, gather=5.0)
    a, b = math.exp(4) / (math.exp(4) + 1), 1 / (math.exp(4) + 1)
    assert fit.item() == pytest.approx(a / math.hypot(a, b), abs=1e-6)


def test_words_gather_as_a_soft_maximum_and_padding_is_none_of_them() -> None:
    vectors = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    local = torch.tensor([[[1.0, 0.0]]])  # one token: cosines 1 and 0
    fit = word_matching(local, words(vectors, torch.tensor([[1, 1, 0]])), 4.0, 5.0)
    assert fit.item() == pytest.approx(math.log(math.exp(5) + 1) / 5, abs=1e-6)
    none = word_matching(local, words(vectors, torch.zeros(1, 3)), 4.0, 5.0)
    assert none.item() == 0


def test_word_patches_add_the_local_contrast() -> None:
    image = ImageTokens(E2[:, None], E2, (1,))  # each image has one token, which is the only word of its report
    loss, parts = WordPatches(temperature=0.5, local_scale=2.0)(image, E2, NONE, NONE, Extras(words(E2[:, None])))
    expected = math.log(1 + math.exp(-2))
    assert parts["info_nce"].item() == pytest.approx(expected, abs=1e-6)
    assert parts["words"].item() == pytest.approx(expected, abs=1e-6)
    assert loss.item() == pytest.approx(2 * expected, abs=1e-6)


def test_a_word_groups_the_few_tokens_that_resemble_it() -> None:
    """Similarities 4, 3, 0, 2 stretch to 1, 0.75, 0, 0.5; those below 0.6 are cut; weights 4/7 and 3/7."""
    tokens = torch.tensor([[4.0, 0.0], [3.0, 7.0], [0.0, 1.0], [2.0, 5.0]])
    grouped = sparse_grouping(tokens, torch.tensor([[1.0, 0.0]]), threshold=0.6)
    assert grouped[0].tolist() == pytest.approx([(4 * 4 + 3 * 3) / 7, 3 * 7 / 7], abs=1e-6)
    quarter = sparse_grouping(tokens, torch.tensor([[1.0, 0.0]]))  # 1 / N = 0.25 keeps the 0.5 as well
    assert quarter[0, 0].item() == pytest.approx((4 + 3 * 0.75 + 2 * 0.5) / 2.25, abs=1e-6)


def test_the_fine_part_contrasts_words_within_their_own_image() -> None:
    objective = SparseWords(temperature=0.5)
    fine = objective.within(E2, E2)  # each word takes its own token: a plain contrast of two orthogonal pairs
    assert fine.item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-5)
    image = ImageTokens(torch.stack([E2, E2]), E2, (2,))
    extras = Extras(words(torch.stack([E2, E2]), torch.tensor([[1, 1], [0, 0]])))
    loss, parts = objective(image, E2, NONE, NONE, extras)  # the second report has no word
    assert parts["fine"].item() == pytest.approx(fine.item(), abs=1e-6)
    assert loss.item() == pytest.approx(fine.item() + math.log(1 + math.exp(-2)), abs=1e-5)


def test_the_fine_part_needs_no_other_patient() -> None:
    objective, local = SparseWords(), torch.randn(3, 6, 4)
    held = torch.randn(3, 5, 4)
    alone = [objective.within(local[i], held[i]).detach() for i in range(3)]
    _, parts = objective(ImageTokens(local, local.mean(1), (6,)), held.mean(1), NONE, NONE, Extras(words(held)))
    assert parts["fine"].item() == pytest.approx(float(torch.stack(alone).mean()), abs=1e-6)


# ---- regions


def test_a_region_is_the_mean_of_its_tokens_by_their_share() -> None:
    local = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]]])
    found = region_vectors(local, torch.tensor([[[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]]))
    assert found[0, 0].tolist() == pytest.approx([2 / 3, 2 / 3], abs=1e-6)
    assert found[0, 1].tolist() == [0, 0]
    with pytest.raises(ValueError, match="masks cover 2 tokens, the image has 3; bring them to the tower's grid"):
        region_vectors(local, torch.ones(1, 1, 2))


def regions(kin: list[int], masks: Tensor | None = None) -> tuple[ImageTokens, Extras]:
    """Three patients, one region, one token each: e1, e2, e2, described as e1, e2, e2."""
    vectors = E2[[0, 1, 1]]
    masks = torch.ones(3, 1, 1) if masks is None else masks
    extras = Extras(regions=Regions(masks, vectors[:, None], torch.tensor(kin)[:, None]))
    return ImageTokens(vectors[:, None], vectors, (1,)), extras


def test_two_healthy_organs_are_positives_of_each_other() -> None:
    image, extras = regions([0, 1, 1])
    _, parts = RegionPairs(temperature=0.5)(image, image.whole, NONE, NONE, extras)
    first = math.log(math.exp(2) + 2) - 2
    second = math.log(2 * math.exp(2) + 1) - 2  # both of its two positives are at logit 2
    assert parts["regions"].item() == pytest.approx((first + 2 * second) / 3, abs=1e-6)


def test_an_organ_that_is_not_there_or_not_described_takes_no_part() -> None:
    expected = math.log(1 + math.exp(-2))  # patients 0 and 1 alone
    image, extras = regions([0, 1, -1])
    _, parts = RegionPairs(temperature=0.5)(image, image.whole, NONE, NONE, extras)
    assert parts["regions"].item() == pytest.approx(expected, abs=1e-6)
    image, extras = regions([0, 1, 1], torch.tensor([1.0, 1.0, 0.0])[:, None, None])
    _, parts = RegionPairs(temperature=0.5)(image, image.whole, NONE, NONE, extras)
    assert parts["regions"].item() == pytest.approx(expected, abs=1e-6)
    image, extras = regions([0, -1, -1])  # one patient has nobody to differ from
    loss, parts = RegionPairs(temperature=0.5)(image, image.whole, NONE, NONE, extras)
    assert parts["regions"].item() == 0
    assert math.isfinite(loss.item())


def test_a_phrase_is_true_of_its_region_and_false_of_another() -> None:
    """Two regions, tokens e1 and e2; one sentence e1 at scale 4 and bias -1: logits 3 and -1."""
    image, text = ImageTokens(E2[None], E2[:1], (2,)), E2[:1]
    extras = Extras(phrases=Phrases(E2[None], torch.tensor([[[1.0], [0.0]]])))
    objective = RegionPhrases(scale=4.0)
    target, kin = torch.tensor([[1.0]]), torch.tensor([0])
    loss, parts = objective(image, text, target, kin, extras)
    expected = (math.log1p(math.exp(-3)) + math.log1p(math.exp(-1))) / 2
    assert parts["regions"].item() == pytest.approx(expected, abs=1e-6)
    plain = SentencePairs(scale=4.0)(image, text, target, kin)[0]
    assert loss.item() == pytest.approx(plain.item() + expected, abs=1e-6)
    unknown = Extras(phrases=Phrases(E2[None], torch.full((1, 2, 1), NAN)))
    assert objective(image, text, target, kin, unknown)[1]["regions"].item() == 0


# ---- two streams


def test_streams_contrast_within_themselves_and_join_within_an_image() -> None:
    """One image with tokens e1 and e2, very sharp attention: place 0 and disease 0 see e1, place 1 and disease 1 e2."""
    image = ImageTokens(torch.stack([E2, E2]), E2, (2,))
    streams = Streams(E2, E2, torch.eye(2), torch.eye(2), torch.stack([E2, torch.zeros(2, 2)]))
    objective = TwoStreams(2, temperature=0.5, sharpness=200.0)
    loss, parts = objective(image, E2, NONE, NONE, Extras(streams=streams))
    # every feature fits its own phrase with cosine 1 in both images, so all logits of a stream are 2: ln 2
    assert parts["streams"].item() == pytest.approx(math.log(2), abs=1e-5)
    # in the first image places meet diseases as two orthogonal pairs; the second has no disease at any place
    assert parts["joined"].item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-5)
    total = sum(part.item() for part in parts.values())
    assert loss.item() == pytest.approx(total, abs=1e-5)


# ---- parts of images


def local_to_global(**options: float) -> LocalToGlobal:
    objective = LocalToGlobal(2, prototypes=2, warm=1.0, cold=0.5, **options)
    objective.head.weight.data.copy_(E2)
    objective.slow_head.weight.data.copy_(E2)
    return objective


def test_a_part_must_say_what_the_whole_says_to_the_slow_tower() -> None:
    objective = local_to_global().eval()
    extras = Extras(slow=Slow(E2[:1], E2[:1]), crops=torch.tensor([[[0.0, 3.0]]]))  # the part points elsewhere
    image = ImageTokens(E2[:1, None], E2[:1], (1,))
    loss, parts = objective(image, E2[:1], NONE, NONE, extras)
    p = math.exp(2) / (math.exp(2) + 1)  # slow: (1, 0) at temperature 0.5
    log_first, log_second = -math.log(1 + math.e), 1 - math.log(1 + math.e)  # trained: (0, 1) at temperature 1
    expected = -(p * log_first + (1 - p) * log_second)
    assert parts["distill"].item() == pytest.approx(expected, abs=1e-6)
    pairs = PairSigmoid()(image, E2[:1], NONE, NONE)[0]
    assert loss.item() == pytest.approx(pairs.item() + expected, abs=1e-6)
    assert objective.center.tolist() == [0, 0]


def test_the_centre_and_the_slow_head_follow_while_training_and_are_part_of_the_state() -> None:
    objective = local_to_global(momentum=0.75, keep=0.9)
    objective.head.weight.data.mul_(2)
    extras = Extras(slow=Slow(E2, E2), crops=torch.ones(1, 2, 2))
    objective(ImageTokens(E2[:, None], E2, (1,)), E2, NONE, NONE, extras)[0].backward()
    assert objective.slow_head.weight.diagonal().tolist() == pytest.approx([1.25, 1.25])
    assert objective.center.tolist() == pytest.approx([0.1 * 1.25 / 2] * 2)
    assert objective.slow_head.weight.grad is None
    assert {"center", "slow_head.weight"} <= set(objective.state_dict())


# ---- captions


def test_a_decoder_that_knows_nothing_pays_the_logarithm_of_the_vocabulary() -> None:
    objective = ContrastAndCaption(7, 2, width=8, depth=1, heads=2, length=4, contrast_weight=0.0)
    objective.decoder.say.weight.data.zero_()
    objective.decoder.say.bias.data.zero_()
    ids, mask = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 1, 0]])
    image = ImageTokens(torch.randn(1, 5, 2), torch.randn(1, 2), (5,))
    held = Extras(words(torch.zeros(1, 3, 2), mask, ids))
    loss, parts = objective(image, E2[:1], NONE, NONE, held)
    assert parts["caption"].item() == pytest.approx(math.log(7), abs=1e-6)
    assert loss.item() == pytest.approx(2 * math.log(7), abs=1e-5)
    objective.decoder.say.bias.data[1] = math.log(7.0)  # word 1 now has 7 shares of 13, word 2 one; word 3 is padding
    _, parts = objective(image, E2[:1], NONE, NONE, held)
    assert parts["caption"].item() == pytest.approx((math.log(13 / 7) + math.log(13)) / 2, abs=1e-6)


def test_a_word_is_predicted_from_those_before_it_and_from_the_image_only() -> None:
    decoder = CaptionDecoder(9, 4, width=8, depth=2, heads=2, length=6).eval()
    local, ids = torch.randn(1, 3, 4), torch.tensor([[1, 2, 3, 4]])
    said = decoder(local, ids)
    later = decoder(local, torch.tensor([[1, 2, 7, 4]]))
    torch.testing.assert_close(said[:, :3], later[:, :3])
    assert float((said[:, 3] - later[:, 3]).abs().max()) > 1e-4
    assert float((said - decoder(local + 1, ids)).abs().max()) > 1e-4
    with pytest.raises(ValueError, match=r"a report of 7 tokens, the decoder takes 6; raise objective\.length"):
        decoder(local, torch.zeros(1, 7, dtype=torch.long))


def test_contrast_and_caption_adds_both() -> None:
    objective = ContrastAndCaption(7, 4, width=8, depth=1, heads=2, length=4)
    local, text = torch.randn(3, 5, 4), torch.randn(3, 4)
    ids = torch.randint(0, 7, (3, 4))
    loss, parts = objective(
        ImageTokens(local, local.mean(1), (5,)), text, NONE, NONE, Extras(words(torch.zeros(3, 4, 4), None, ids))
    )
    plain = PairInfoNCE()(ImageTokens(local, local.mean(1), (5,)), text, NONE, NONE)[0]
    assert parts["info_nce"].item() == pytest.approx(plain.item(), abs=1e-6)
    by_word = F.cross_entropy(objective.decoder(local, ids).flatten(0, 1), ids.flatten())
    assert loss.item() == pytest.approx(plain.item() + 2 * by_word.item(), abs=1e-5)
