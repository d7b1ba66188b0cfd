"""Objectives of image-report pairs, against cases worked by hand and the loss code of transformers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medvlm.encoders import ImageTokens
from medvlm.objective_inputs import Extras, Negatives, Slow, take
from medvlm.objectives import PairInfoNCE, PairSigmoid, info_nce, multi_positive_nce, pair_sigmoid
from medvlm.objectives_queue import MomentumQueue
from medvlm.objectives_reports import ConceptCodes, HardNegatives, SoftTargets, likeness, soft_target_nce
from medvlm.objectives_sum import WeightedSum

NONE = torch.zeros(0)
E2 = torch.eye(2)


def whole(vectors: Tensor) -> ImageTokens:
    return ImageTokens(vectors[:, None], vectors, (1,))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# ---- a second implementation: transformers


SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS, PIXELS = {**SMALL, "vocab_size": 20, "max_position_embeddings": 8}, {**SMALL, "image_size": 8, "patch_size": 4}


@pytest.mark.parametrize("tile", [None, 4])
def test_pair_info_nce_is_the_loss_of_clip_in_transformers_with_its_gradient(tile: int | None) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPConfig(text_config=WORDS, vision_config=PIXELS, projection_dim=12)
    model = transformers.CLIPModel(config).eval()
    pixels, ids = torch.randn(5, 3, 8, 8), torch.randint(0, 20, (5, 8))
    theirs = model(input_ids=ids, pixel_values=pixels, return_loss=True)
    theirs.loss.backward()
    objective = PairInfoNCE(tile=tile)
    objective.log_scale.data.copy_(model.logit_scale.data)
    ours, _ = objective(whole(theirs.image_embeds.detach()), theirs.text_embeds.detach(), NONE, NONE)
    ours.backward()
    assert ours.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    assert objective.log_scale.grad is not None
    assert objective.log_scale.grad.item() == pytest.approx(model.logit_scale.grad.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("tile", [None, 4])
def test_pair_sigmoid_is_the_loss_of_siglip_in_transformers_with_its_gradients(tile: int | None) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SiglipConfig(text_config=WORDS, vision_config=PIXELS)
    model = transformers.SiglipModel(config).eval()
    pixels, ids = torch.randn(5, 3, 8, 8), torch.randint(0, 20, (5, 8))
    theirs = model(input_ids=ids, pixel_values=pixels, return_loss=True)
    theirs.loss.backward()
    objective = PairSigmoid(tile=tile)
    objective.log_scale.data.copy_(model.logit_scale.data.squeeze())
    objective.bias.data.copy_(model.logit_bias.data.squeeze())
    ours, _ = objective(whole(theirs.image_embeds.detach()), theirs.text_embeds.detach(), NONE, NONE)
    ours.backward()
    assert ours.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    for mine, other in ((objective.log_scale, model.logit_scale), (objective.bias, model.logit_bias)):
        assert mine.grad is not None
        assert mine.grad.item() == pytest.approx(other.grad.item(), rel=1e-4, abs=1e-6)


# ---- a second implementation: pytorch-metric-learning


def test_info_nce_is_the_loss_of_pytorch_metric_learning_in_both_directions() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    image, text, own = torch.randn(6, 8), torch.randn(6, 8), torch.arange(6)
    theirs, same = losses.NTXentLoss(temperature=0.2), own.clone()  # one tensor twice would leave out the diagonal
    expected = (
        theirs(image, own, ref_emb=text, ref_labels=same) + theirs(text, own, ref_emb=image, ref_labels=same)
    ) / 2
    assert float(info_nce(image, text, torch.tensor(math.log(5)))) == pytest.approx(float(expected), abs=1e-5)


def test_several_positives_are_the_supervised_contrast_of_pytorch_metric_learning() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    image, text = F.normalize(torch.randn(6, 8), dim=1), F.normalize(torch.randn(6, 8), dim=1)
    kind = torch.tensor([0, 0, 1, 1, 1, 2])
    theirs, same = losses.SupConLoss(temperature=0.2), kind.clone()
    forth = theirs(image, kind, ref_emb=text, ref_labels=same)
    back = theirs(text, kind, ref_emb=image, ref_labels=same)
    ours = multi_positive_nce(image @ text.T * 5, kind[:, None] == kind[None, :])
    assert float(ours) == pytest.approx(float(forth + back) / 2, abs=1e-5)


# ---- sigmoid


def test_two_pairs_cost_four_sigmoids() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    expected = (softplus(-2.0) + softplus(-1.0) + softplus(0.5) + softplus(-3.0)) / 2
    assert float(pair_sigmoid(logits)) == pytest.approx(expected, abs=1e-6)


def test_sigmoid_begins_with_the_scale_and_bias_of_the_paper() -> None:
    objective = PairSigmoid()
    logits = objective.logits(whole(E2), E2)
    torch.testing.assert_close(logits, torch.tensor([[0.0, -10.0], [-10.0, 0.0]]))
    assert objective.bias.requires_grad
    assert not PairInfoNCE().bias.requires_grad


# ---- soft targets


def test_likeness_is_the_share_of_findings_in_common() -> None:
    nan = math.nan
    codes = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, nan], [0, 0, 0, 0]])
    expected = torch.tensor([[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    torch.testing.assert_close(likeness(codes), expected)


def test_soft_targets_equal_the_sum_written_out() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    target = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    row0, row1 = math.log(math.e + 1), math.log(1 + math.exp(2))
    expected = ((row0 - 0.75) + (row1 - 1.5)) / 2  # the matrix is symmetric, so both directions are the same
    assert float(soft_target_nce(logits, target)) == pytest.approx(expected, abs=1e-6)


def test_two_normal_studies_are_not_pushed_apart_and_two_unlike_ones_are() -> None:
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    image = text.clone().requires_grad_()
    objective = SoftTargets(temperature=0.5)
    objective(whole(image), text, NONE, NONE, Extras(codes=torch.zeros(2, 3)))[0].backward()
    assert image.grad is not None
    assert float(image.grad.abs().max()) < 1e-7
    mixed = objective(whole(image), E2, NONE, NONE, Extras(codes=torch.eye(2)))[0]
    plain = PairInfoNCE(temperature=0.5)(whole(image), E2, NONE, NONE)[0]
    assert float(mixed) == pytest.approx(float(plain), abs=1e-6)


def test_softness_nought_is_plain_info_nce_and_two_is_refused() -> None:
    image, text = torch.randn(4, 5), torch.randn(4, 5)
    soft = SoftTargets(temperature=0.3, softness=0.0)(whole(image), text, NONE, NONE, Extras(codes=torch.zeros(4, 2)))
    assert float(soft[0]) == pytest.approx(float(PairInfoNCE(0.3)(whole(image), text, NONE, NONE)[0]), abs=1e-6)
    with pytest.raises(ValueError, match=r"softness is 2; expected a share in \[0, 1\]"):
        SoftTargets(softness=2)


# ---- hard negatives


def test_a_changed_report_competes_for_every_image() -> None:
    """Two orthogonal pairs at scale 2; the negative of the first text equals the second text."""
    extras = Extras(negatives=Negatives(E2[1:], torch.tensor([0])))
    loss, parts = HardNegatives(temperature=0.5)(whole(E2), E2, NONE, NONE, extras)
    first = math.log(math.exp(2) + 1 + 1) - 2
    second = math.log(1 + math.exp(2) + math.exp(2)) - 2
    back = math.log(math.exp(2) + 1) - 2
    assert loss.item() == pytest.approx(((first + second) / 2 + back) / 2, abs=1e-6)
    assert set(parts) == {"neg_nce"}


def test_the_rank_margin_is_how_far_ahead_the_truth_was_a_step_ago() -> None:
    objective = HardNegatives(temperature=0.5, rank_weight=2.0, largest_margin=0.2)
    # cosine with the own text 1, with the negatives 0.6 and 0.9: ahead by 0.4 and 0.1
    wrong = torch.tensor([[0.6, 0.8], [math.sqrt(1 - 0.81), 0.9]])
    extras = Extras(negatives=Negatives(wrong, torch.tensor([0, 1])))
    _, parts = objective(whole(E2), E2, NONE, NONE, extras)
    assert parts["rank"].item() == 0  # the margin begins at 0
    assert objective.margin.item() == pytest.approx((0.2 + 0.1) / 2, abs=1e-6)  # 0.4 is cut at 0.2
    loss, parts = objective(whole(E2), E2, NONE, NONE, extras)
    assert parts["rank"].item() == pytest.approx((0 + 0.05) / 2, abs=1e-6)
    assert loss.item() == pytest.approx(parts["neg_nce"].item() + 2 * 0.025, abs=1e-5)
    objective.eval()
    objective(whole(E2), E2, NONE, NONE, Extras(negatives=Negatives(E2[1:], torch.tensor([0]))))
    assert objective.margin.item() == pytest.approx(0.15, abs=1e-6)  # looking changes nothing


def test_no_negative_at_all_is_plain_info_nce() -> None:
    image, text = torch.randn(3, 4), torch.randn(3, 4)
    extras = Extras(negatives=Negatives(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)))
    loss, _ = HardNegatives(0.2, rank_weight=1.0)(whole(image), text, NONE, NONE, extras)
    assert loss.item() == pytest.approx(float(PairInfoNCE(0.2)(whole(image), text, NONE, NONE)[0]), abs=1e-6)


# ---- codes


def test_codes_cost_their_binary_cross_entropy_where_known() -> None:
    objective = ConceptCodes(embed=2, codes=2, contrast_weight=0.0)
    objective.head.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    objective.head.bias.data.zero_()
    codes = torch.tensor([[1.0, 0.0], [0.0, math.nan]])  # logits [[1, 0], [0, 2]]
    loss, parts = objective(whole(E2), E2, NONE, NONE, Extras(codes=codes))
    assert loss.item() == pytest.approx((softplus(-1) + softplus(0) + softplus(0)) / 3, abs=1e-6)
    assert set(parts) == {"codes"}
    with pytest.raises(ValueError, match=r"has 3 codes, the head 2; give objective\.codes=3 in the recipe"):
        objective(whole(E2), E2, NONE, NONE, Extras(codes=torch.zeros(2, 3)))


# ---- momentum queue


def test_the_queue_adds_the_slow_vectors_of_the_step_before() -> None:
    objective = MomentumQueue(embed=2, length=3, temperature=0.5, softness=0.0)
    slow = Extras(slow=Slow(E2, E2))
    first, _ = objective(whole(E2), E2, NONE, NONE, slow)
    assert first.item() == pytest.approx(math.log(math.exp(2) + 1) - 2, abs=1e-6)
    second, parts = objective(whole(E2), E2, NONE, NONE, slow)  # own, other, and both again in the queue
    assert second.item() == pytest.approx(math.log(2 * math.exp(2) + 2) - 2, abs=1e-6)
    assert parts["queued"].item() == 3
    assert objective.seen.item() == 4
    torch.testing.assert_close(objective.texts, torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))  # the oldest went


def test_pseudo_targets_share_the_mass_as_the_slow_towers_see_it() -> None:
    objective = MomentumQueue(embed=2, length=2, temperature=1.0, softness=0.4).eval()
    fast, text = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    slow = Extras(slow=Slow(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), E2))  # it would swap the pairs
    p, wrong = math.e / (math.e + 1), 1 / (math.e + 1)
    log_own, log_other = math.log(p), math.log(wrong)
    image = -((0.6 + 0.4 * wrong) * log_own + 0.4 * p * log_other)
    # texts ask the slow images, which are swapped as well: their own one is at 0, and the slow text sees it so
    back = -((0.6 + 0.4 * wrong) * log_other + 0.4 * p * log_own)
    loss, _ = objective(whole(fast), text, NONE, NONE, slow)
    assert loss.item() == pytest.approx((image + back) / 2, abs=1e-6)
    assert objective.seen.item() == 0  # looking keeps nothing


def test_a_resumed_queue_goes_on_bit_for_bit() -> None:
    def step(objective: MomentumQueue, seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        a, b, c, d = (torch.randn(3, 4, generator=g) for _ in range(4))
        return objective(whole(a), b, NONE, NONE, Extras(slow=Slow(c, d)))[0]

    straight, early = MomentumQueue(4, length=5), MomentumQueue(4, length=5)
    for seed in (0, 1):
        step(straight, seed)
        step(early, seed)
    resumed = MomentumQueue(4, length=5)
    resumed.load_state_dict(early.state_dict())
    for seed in (2, 3):
        assert torch.equal(step(straight, seed), step(resumed, seed))
    assert torch.equal(straight.images, resumed.images)


def test_a_batch_longer_than_the_queue_leaves_its_last_rows() -> None:
    objective = MomentumQueue(2, length=2)
    vectors = F.normalize(torch.randn(5, 2), dim=1)
    objective(whole(vectors), vectors, NONE, NONE, Extras(slow=Slow(vectors, vectors)))
    # rows 3 and 4 of those seen so far: the places 1 and 0
    torch.testing.assert_close(objective.images, vectors[[4, 3]])
    assert objective.seen.item() == 5


# ---- sums, and what is missing


def test_a_sum_weighs_its_objectives_and_names_their_parts() -> None:
    image, text, codes = torch.randn(3, 4), torch.randn(3, 4), torch.zeros(3, 2)
    parts = [PairSigmoid(), ConceptCodes(4, 2, contrast_weight=0.0)]
    both = WeightedSum(parts, [0.5, 2.0])
    loss, named = both(whole(image), text, NONE, NONE, Extras(codes=codes))
    alone = [float(o(whole(image), text, NONE, NONE, Extras(codes=codes))[0]) for o in parts]
    assert loss.item() == pytest.approx(0.5 * alone[0] + 2 * alone[1], rel=1e-6)
    assert set(named) == {"PairSigmoid.0.sigmoid", "ConceptCodes.1.codes"}
    assert both.wants == ("codes",)
    assert both.needs == "reports"
    torch.testing.assert_close(both.logits(whole(image), text), parts[0].logits(whole(image), text))
    with pytest.raises(ValueError, match="2 objectives and 1 weights; expected one weight for each"):
        WeightedSum(parts, [1.0])


def test_a_missing_input_is_named_with_the_objective() -> None:
    with pytest.raises(ValueError, match="SoftTargets: needs `codes` beside images and texts and got none"):
        SoftTargets()(whole(E2), E2, NONE, NONE)
    assert take(Extras(codes=E2), "codes", None) is E2
