"""A second look at half the stride of the tokens: where its cells lie, and what it is for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlm.encoders import ImageTokens
from medvlm.ground import phrase_map
from medvlm.model import Model, load_model


class Means(nn.Module):
    """A tower whose token is the mean of its block of 8 x 8 pixels (films) or 8 x 8 x 8 voxels."""

    def forward(self, image: Tensor, view: Tensor) -> ImageTokens:
        mean = F.avg_pool2d(image, 8) if image.ndim == 4 else F.avg_pool3d(image, 8)
        return ImageTokens(mean.flatten(2).transpose(1, 2), mean.flatten(1)[:, :1], tuple(mean.shape[2:]))


@pytest.fixture
def means(film_run: Path) -> Model:
    model = load_model(film_run)
    return replace(model, towers=model.towers._replace(image=Means()))


def test_each_cell_of_the_closer_look_is_centered_where_its_index_says(means: Model) -> None:
    row, column = torch.meshgrid(torch.arange(32.0) + 0.5, torch.arange(48.0) + 0.5, indexing="ij")
    ramp = (3 * row + 5 * column)[None, None]  # a token's mean is the ramp at its center
    closer = means.look_closely(ramp, ["PA"])
    assert closer.grid == (8, 12)
    found = closer.local.view(8, 12)[1:-1, 1:-1]  # the border sees pixels that were repeated
    wanted = 3 * (4 * torch.arange(8) + 2)[:, None] + 5 * (4 * torch.arange(12) + 2)[None]
    torch.testing.assert_close(found, wanted[1:-1, 1:-1].float())


def test_a_volume_is_looked_at_once(means: Model) -> None:
    assert means.look_closely(torch.zeros(1, 1, 16, 24, 32), ["unknown"]).grid == (2, 3, 4)


def test_a_map_is_the_mean_of_neighboring_cells(means: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    heat = torch.zeros(1, 1, 4, 5)
    heat[0, 0, 1, 2] = 9.0
    heat[0, 0, 3, 4] = 4.5  # in the corner: its edges are repeated, so it counts four times
    monkeypatch.setattr(Model, "maps", lambda self, closer, texts: heat)
    found = phrase_map(means, ImageTokens(torch.zeros(1, 20, 1), torch.zeros(1, 1), (4, 5)), "effusion")[0]
    assert found[1, 2] == pytest.approx(1.0)
    assert found[0, 1] == pytest.approx(1.0)
    assert found[3, 4] == pytest.approx(2.0)
    assert found[2, 0] == 0.0
