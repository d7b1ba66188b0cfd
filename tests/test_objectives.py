"""The contrastive objectives, against cases worked by hand and loops that nobody would run on a batch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medvlm.encoders import ImageTokens
from medvlm.objectives import (
    PairInfoNCE,
    SentencePairs,
    info_nce,
    multi_positive_nce,
    similarity_attention,
    statement_sigmoid,
)

NAN = math.nan


def log_scale(scale: float) -> Tensor:
    return torch.tensor(math.log(scale))


def image_tokens(images: int, tokens: int, width: int) -> ImageTokens:
    return ImageTokens(
        torch.randn(images, tokens, width, requires_grad=True),
        torch.randn(images, width, requires_grad=True),
        (1, tokens),
    )


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# ---- InfoNCE


def test_two_orthogonal_pairs_cost_what_the_formula_says() -> None:
    pairs = torch.tensor([[3.0, 0.0], [0.0, 0.5]])  # lengths do not matter
    loss = info_nce(pairs, pairs, log_scale(2.0))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2.0)), abs=1e-6)


def test_pairs_that_look_alike_cost_the_logarithm_of_their_number() -> None:
    same = torch.ones(5, 3)
    assert float(info_nce(same, same, log_scale(7.0))) == pytest.approx(math.log(5), abs=1e-6)


def test_info_nce_is_symmetric_in_image_and_text() -> None:
    image, text = torch.randn(4, 6), torch.randn(4, 6)
    forth, back = (float(info_nce(a, b, log_scale(3.0))) for a, b in ((image, text), (text, image)))
    assert forth == pytest.approx(back, abs=1e-6)


def test_info_nce_equals_a_loop_over_rows_and_columns() -> None:
    image, text = torch.randn(4, 6), torch.randn(4, 6)
    cosine = [[5 * float(F.cosine_similarity(i, t, dim=0)) for t in text] for i in image]
    rows = [math.log(sum(math.exp(v) for v in cosine[i])) - cosine[i][i] for i in range(4)]
    columns = [math.log(sum(math.exp(cosine[k][i]) for k in range(4))) - cosine[i][i] for i in range(4)]
    expected = (sum(rows) / 4 + sum(columns) / 4) / 2
    assert float(info_nce(image, text, log_scale(5.0))) == pytest.approx(expected, abs=1e-5)


def test_info_nce_refuses_two_shapes_and_says_which() -> None:
    with pytest.raises(ValueError, match=r"image \(3, 4\) and text \(2, 4\) must share one shape \(B, E\)"):
        info_nce(torch.zeros(3, 4), torch.zeros(2, 4), log_scale(1.0))


# ---- InfoNCE with several positives


def one_way(logits: list[list[float]], positive: list[list[bool]]) -> float:
    costs = []
    for row, mask in zip(logits, positive, strict=True):
        if any(mask):
            total = math.log(sum(math.exp(v) for v in row))
            costs.append(sum(total - v for v, p in zip(row, mask, strict=True) if p) / sum(mask))
    return sum(costs) / len(costs)


def test_several_positives_equal_a_loop_and_rows_without_one_are_left_out() -> None:
    logits = torch.randn(3, 4)
    positive = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()  # the last image, two texts: nobody's
    expected = (one_way(logits.tolist(), positive.tolist()) + one_way(logits.T.tolist(), positive.T.tolist())) / 2
    assert float(multi_positive_nce(logits, positive)) == pytest.approx(expected, abs=1e-5)


def test_one_positive_each_is_plain_info_nce() -> None:
    image, text = torch.randn(4, 6), torch.randn(4, 6)
    logits = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T * 5
    plain = float(info_nce(image, text, log_scale(5.0)))
    assert float(multi_positive_nce(logits, torch.eye(4).bool())) == pytest.approx(plain, abs=1e-5)


def test_no_positive_at_all_costs_nothing_and_can_be_differentiated() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = multi_positive_nce(logits, torch.zeros(2, 3).bool())
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) == 0


# ---- the sigmoid of statements


def test_true_and_false_images_of_a_statement_weigh_the_same() -> None:
    logits = torch.tensor([[2.0], [-1.0], [-3.0], [0.5]])
    target = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    false = (softplus(-1.0) + softplus(-3.0) + softplus(0.5)) / 3
    assert float(statement_sigmoid(logits, target)) == pytest.approx((softplus(-2.0) + false) / 2, abs=1e-6)


def test_a_rare_finding_counts_as_much_as_a_common_one() -> None:
    target = torch.zeros(100, 2)
    target[0, 0] = 1  # rare
    target[:50, 1] = 1  # common
    logits = torch.zeros(100, 2, requires_grad=True)
    statement_sigmoid(logits, target).backward()
    assert logits.grad is not None
    pull = [float(logits.grad[target[:, k] == 1, k].sum()) for k in (0, 1)]
    assert pull[0] == pytest.approx(pull[1], rel=1e-5)
    assert pull[0] == pytest.approx(-0.5 / 4, rel=1e-5)  # four halves of statements, each -sigmoid(0) in sum


def test_unknown_targets_change_neither_the_loss_nor_the_gradient() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    target = torch.tensor([[1, 0, NAN, NAN], [NAN, 1, 0, NAN], [0, NAN, NAN, NAN]])
    loss = statement_sigmoid(logits, target)
    loss.backward()
    assert logits.grad is not None
    assert bool((logits.grad[target.isnan()] == 0).all())
    assert bool((logits.grad[~target.isnan()] != 0).all())
    sides = []
    for k in range(4):
        for truth in (1.0, 0.0):
            costs = [softplus(logits[i, k].item() * (-1 if truth else 1)) for i in range(3) if target[i, k] == truth]
            if costs:
                sides.append(sum(costs) / len(costs))
    assert loss.item() == pytest.approx(sum(sides) / len(sides), abs=1e-5)


def test_nothing_known_costs_nothing() -> None:
    logits = torch.randn(2, 2, requires_grad=True)
    loss = statement_sigmoid(logits, torch.full((2, 2), NAN))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


# ---- pooling over tokens


def test_attention_equals_a_loop_over_tokens() -> None:
    local, text = torch.randn(2, 5, 3), torch.randn(4, 3)
    found = similarity_attention(local, text, 4.0)
    assert found.maps.shape == (2, 4, 5)
    for b in range(2):
        for m in range(4):
            cosine = [float(F.cosine_similarity(local[b, n], text[m], dim=0)) for n in range(5)]
            assert found.maps[b, m].tolist() == pytest.approx(cosine, abs=1e-5)
            weight = [math.exp(4 * c) for c in cosine]
            pooled = sum(w * c for w, c in zip(weight, cosine, strict=True)) / sum(weight)
            assert float(found.pooled[b, m]) == pytest.approx(pooled, abs=1e-5)


def test_one_fitting_token_is_enough_and_none_stays_low() -> None:
    text = torch.tensor([[1.0, 0.0]])
    away = torch.tensor([[-1.0, 0.0]]).repeat(64, 1)
    here = away.clone()
    here[17] = torch.tensor([1.0, 0.0])
    pooled = similarity_attention(torch.stack([here, away]), text, 20.0).pooled[:, 0]
    assert pooled[0] > 0.99
    assert pooled[1] == pytest.approx(-1.0)


# ---- the modules


def test_whole_images_meet_whole_reports_in_plain_info_nce() -> None:
    objective, image, text = PairInfoNCE(temperature=0.1), image_tokens(3, 4, 5), torch.randn(3, 5, requires_grad=True)
    loss, parts = objective(image, text, torch.eye(3), torch.arange(3))
    assert loss.item() == pytest.approx(float(info_nce(image.whole, text, log_scale(10.0))), abs=1e-5)
    assert set(parts) == {"info_nce"}
    loss.backward()
    assert image.local.grad is None  # tokens have no part in the control arm
    for tensor in (image.whole, text, objective.log_scale):
        assert tensor.grad is not None
        assert bool(torch.isfinite(tensor.grad).all())
        assert float(tensor.grad.abs().sum()) > 0
    assert objective.bias.grad is None
    assert objective.logits(image, text).shape == (3, 3)


def test_sentence_pairs_give_finite_gradients_with_unknown_targets() -> None:
    objective, image, text = SentencePairs(), image_tokens(3, 4, 5), torch.randn(4, 5, requires_grad=True)
    target = torch.tensor([[1, 0, NAN, 0], [0, NAN, 1, NAN], [NAN, NAN, NAN, 1]])
    loss, parts = objective(image, text, target, torch.tensor([0, 1, 1, 2]))
    loss.backward()
    total = parts["sigmoid"] + objective.nce_weight * parts["nce"] + objective.kin_weight * parts["kin"]
    assert loss.item() == pytest.approx(float(total), abs=1e-6)
    for tensor in (image.local, image.whole, text, objective.log_scale, objective.bias):
        assert tensor.grad is not None
        assert bool(torch.isfinite(tensor.grad).all())
        assert float(tensor.grad.abs().sum()) > 0


def test_log_odds_are_half_the_tokens_and_half_the_whole() -> None:
    objective, image, text = SentencePairs(sharpness=6.0, scale=8.0), image_tokens(2, 4, 5), torch.randn(3, 5)
    local = similarity_attention(image.local, text, 6.0).pooled
    whole = F.cosine_similarity(image.whole[:, None], text[None], dim=-1)
    expected = (local + whole) / 2 * 8 + objective.bias
    torch.testing.assert_close(objective.logits(image, text), expected)


def test_a_batch_of_one_with_one_sentence_gives_a_finite_loss() -> None:
    objective, image, text = SentencePairs(), image_tokens(1, 4, 5), torch.randn(1, 5, requires_grad=True)
    loss, _ = objective(image, text, torch.tensor([[1.0]]), torch.tensor([0]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert text.grad is not None
    assert bool(torch.isfinite(text.grad).all())


def test_two_normal_studies_are_not_pushed_apart() -> None:
    """Both reports say the same, so each sentence has two positives, and swapping the images changes nothing."""
    objective, image, text = SentencePairs(), image_tokens(2, 4, 5), torch.randn(2, 5)
    swapped = ImageTokens(image.local.flip(0), image.whole.flip(0), image.grid)
    target, kin = torch.ones(2, 2), torch.tensor([0, 0])
    assert float(objective(image, text, target, kin)[0]) == pytest.approx(
        float(objective(swapped, text, target, kin)[0]), abs=1e-5
    )
    paired = PairInfoNCE()
    assert float(paired(image, text, target, kin)[0]) != pytest.approx(float(paired(swapped, text, target, kin)[0]))


def test_the_scale_is_bounded() -> None:
    objective, image, text = SentencePairs(scale=1e6), image_tokens(2, 4, 5), torch.randn(3, 5)
    assert float((objective.logits(image, text) - objective.bias).abs().max()) <= 100
