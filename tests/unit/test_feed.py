"""Which images every step sees, in how many processes and parts."""

import numpy as np
import pytest
import torch
from torch import Tensor

from discern.errors import ParamsError
from discern.images.loading import ImageStore
from discern.training.feed import Feed
from discern.training.objective import Batch
from discern.training.schedule import plan
from tests.unit.test_training import store


def test_a_batch_is_split_with_all_that_belongs_to_its_images() -> None:
    index = torch.tensor([4, 2, 9, 0, 7, 5])
    extra = {"perturbed": 10 * index[:, None], "original": 100 * index}
    whole = Batch(index.view(6, 1, 1, 1).expand(6, 3, 2, 2), index, 3, 17, 40, extra)
    assert whole.split(1) == [whole]
    for count in (2, 3, 6):
        split = whole.split(count)
        assert [len(part.index) for part in split] == [6 // count] * count
        assert torch.equal(torch.cat([part.index for part in split]), index)
        for part in split:
            assert (part.epoch, part.step, part.steps) == (3, 17, 40)
            assert torch.equal(part.images[:, 0, 0, 0], part.index)
            assert torch.equal(part.extra["perturbed"][:, 0], 10 * part.index)
            assert torch.equal(part.extra["original"], 100 * part.index)
    without = Batch(whole.images, index, 3, 17, 40).split(3)
    assert [part.extra for part in without] == [{}, {}, {}]


NUMBERED: ImageStore = store(np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8))


def feed(rank: int = 0, size: int = 1, accumulate: int = 1, seed: int = 0, batch_size: int = 8) -> Feed:
    """Of 20 images that show their number; whatever is fetched tells for whom."""

    def fetch(index: Tensor, epoch: int) -> dict[str, Tensor]:
        return {"asked": 100 * epoch + index}

    return Feed(NUMBERED, plan(10, 20, batch_size, 2), seed, fetch, rank, size, accumulate)


@pytest.mark.parametrize(
    ("batch_size", "size", "accumulate"), [(8, 3, 1), (8, 1, 3), (8, 2, 8), (8, 16, 1), (7, 2, 1), (64, 8, 1)]
)
def test_a_batch_that_cannot_be_cut_is_an_error_that_names_the_parameter(
    batch_size: int, size: int, accumulate: int
) -> None:
    used = min(batch_size, 20)
    said = rf"base\.batch_size = {used} .* into {size} processes x {accumulate} parts \(base\.accumulate\)"
    with pytest.raises(ParamsError, match=said):
        feed(0, size, accumulate, batch_size=batch_size)


@pytest.mark.parametrize("step", [0, 1, 2, 7])
@pytest.mark.parametrize("size", [2, 4])
def test_the_processes_parts_joined_are_the_batch_of_one(size: int, step: int) -> None:
    alone = feed()(step)
    together = [feed(rank, size)(step) for rank in range(size)]
    assert [len(part.index) for part in together] == [8 // size] * size
    assert torch.equal(torch.cat([part.index for part in together]), alone.index)
    assert torch.equal(torch.cat([part.images for part in together]), alone.images)
    assert torch.equal(torch.cat([part.extra["asked"] for part in together]), alone.extra["asked"])
    assert {(part.epoch, part.step, part.steps) for part in together} == {(step // 2, step, 12)}


def test_a_batch_holds_the_images_of_its_numbers() -> None:
    for step in (0, 3):
        found = feed()(step)
        assert found.images.shape == (8, 3, 4, 4)
        assert torch.equal(found.images[:, 2, 1, 3].long(), found.index)
        assert torch.equal(found.extra["asked"], 100 * (step // 2) + found.index)
        assert torch.equal(feed().rows(step), found.index)


def test_an_epoch_shows_no_image_twice_and_the_next_has_another_order() -> None:
    source = feed()
    epochs = [torch.cat([source.rows(2 * epoch), source.rows(2 * epoch + 1)]).tolist() for epoch in range(5)]
    assert all(len(set(rows)) == 16 and set(rows) <= set(range(20)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 5
    assert {row for rows in epochs for row in rows} == set(range(20))
    assert source.rows(0).tolist() == epochs[0][:8]  # whatever was asked before
    assert feed(seed=1).rows(0).tolist() != epochs[0][:8]
