"""Two processes that share a batch compute the loss and the gradients of one process that holds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import objective_cases
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from objective_cases import OBJECTIVES, B
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medvlm.data import Augment, Example, PairBatches, Pairs, said_in
from medvlm.encoders import HybridTower
from medvlm.language import SentenceTower, train_tokenizer
from medvlm.objectives import PairInfoNCE, SentencePairs
from medvlm.whole_batch import gather_rows, mean_of_all, processes, share_of, sum_of_all

SPLIT = (slice(0, 4), slice(4, B))  # shares of unequal size


def _shared(module: nn.Module) -> nn.Module:
    return DistributedDataParallel(module, find_unused_parameters=True, broadcast_buffers=False)


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = {name: objective_cases.learn(name, _shared, SPLIT[rank]) for name in OBJECTIVES}
    results |= {f"train {unit}": _train(unit, _shared, rank, 2) for unit in WHOLE} | {"pieces": _pieces(rank)}
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _pieces(rank: int) -> dict[str, torch.Tensor]:
    """The collectives alone: rank 0 holds 1 and 2, rank 1 holds 3."""
    x = torch.tensor([[1.0], [2.0]] if rank == 0 else [[3.0]], requires_grad=True)
    rows = gather_rows(x)
    (rows.flatten() * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    return {
        "rows": rows.detach(),
        "gradient": x.grad if x.grad is not None else x,
        "share": torch.tensor(share_of(len(x), x)),
        "sum": sum_of_all(x.detach().sum()),
        "mean": mean_of_all(x.detach().flatten()),
    }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(_worker, (str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_equal_one(name: str, shared: list[dict]) -> None:
    alone = objective_cases.learn(name)
    assert float(alone["loss"].abs().min()) > 0
    for held in shared:
        assert held[name].keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(held[name][key], value, rtol=1e-5, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


def test_rows_are_gathered_in_order_of_rank_with_the_gradients_of_both(shared: list[dict]) -> None:
    for rank, held in enumerate(shared):
        pieces = held["pieces"]
        assert pieces["rows"].flatten().tolist() == [1, 2, 3]
        assert pieces["gradient"].flatten().tolist() == ([2, 20] if rank == 0 else [200])  # each of two losses
        assert pieces["share"].tolist() == ([0, 2, 3] if rank == 0 else [2, 1, 3])
        assert pieces["sum"].item() == 6
        assert pieces["mean"].item() == 2


def test_one_process_passes_everything_through() -> None:
    x = torch.tensor([1.0, 2.0])
    assert processes() == 1
    assert gather_rows(x) is x
    assert sum_of_all(x) is x
    assert tuple(share_of(2, x)) == (0, 2, 2)
    assert mean_of_all(x, torch.tensor([1.0, 3.0])).item() == pytest.approx(1.75)
    assert mean_of_all(x, torch.zeros(2)).item() == 0


# ---- towers, batches and objective together

SENTENCES = (
    "FINDINGS: Small right pleural effusion. The heart is enlarged.",
    "FINDINGS: Left pleural effusion. No pneumothorax.",
    "FINDINGS: The lungs are clear. No pleural effusion.",
    "FINDINGS: Nodule in the left upper lobe.",
    "FINDINGS: The heart is enlarged. Right pleural effusion.",
)
WHOLE = {"reports": PairInfoNCE, "sentences": SentencePairs}


class Whole(nn.Module):
    """Real towers without batch normalisation."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.image = HybridTower(shape=(32, 32), stem=8, widths=(8, 8, 8), depth=1, heads=2, embed=16, norm="group")
        self.text = SentenceTower(vocabulary=400, width=16, depth=1, heads=2, embed=16, norm="layer")
        self.objective = objective

    def forward(self, batch: Pairs) -> torch.Tensor:
        tokens = self.image(batch.image, batch.view)
        loss: torch.Tensor = self.objective(tokens, self.text(batch.ids, batch.mask), batch.target, batch.kin)[0]
        return loss


def _train(unit: str, wrap: Callable[[nn.Module], nn.Module], rank: int, world: int) -> dict[str, torch.Tensor]:
    """Losses and summed gradients of two steps over one small set."""
    torch.manual_seed(2)
    images = np.random.default_rng(0).random((len(SENTENCES), 1, 32, 32)).astype(np.float32)
    examples = [
        Example(f"1.{n}", f"p{n}", f"1.{n}.1", (), "PA", text, said_in(text)) for n, text in enumerate(SENTENCES)
    ]
    tokenizer = train_tokenizer(SENTENCES, 400)
    augment = Augment(noise=0.0)  # the noise is another one in each process
    batches = PairBatches(examples, images, tokenizer, 24, 5, 7, 2, unit, augment, 1)
    batches.schedule.divide(rank, world)
    module = Whole(WHOLE[unit]())
    shared = wrap(module)
    losses = []
    for step in (0, 1):
        loss = shared(batches[step])
        loss.backward()
        losses.append(loss.detach())
    grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())}
    return {"loss": torch.stack(losses), **grads}


@pytest.mark.parametrize("unit", WHOLE)
def test_two_processes_train_towers_as_one_does(unit: str, shared: list[dict]) -> None:
    alone = _train(unit, lambda module: module, 0, 1)
    assert len(alone) > 30
    for held in shared:
        found = held[f"train {unit}"]
        assert found.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
