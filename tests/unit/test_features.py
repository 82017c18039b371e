import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discern.embedding.features import BLOCK, blocks, extract, inference, unit_rows
from discern.errors import ModelError
from discern.images.views import normalise

CPU = torch.device("cpu")


class TinyEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)

    def feature_map(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.feature_map(x).float().mean((2, 3))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)


def test_features_are_those_of_each_image_alone_in_order(images: np.ndarray) -> None:
    encoder = TinyEncoder()
    features = extract(encoder, images, CPU, batch_size=3, precision="fp32")
    encoder.eval()
    for i, image in enumerate(images):
        x = normalise(torch.from_numpy(image).permute(2, 0, 1)[None])
        np.testing.assert_allclose(features[i], encoder(x).detach().numpy()[0], rtol=1e-5, atol=1e-6)
    assert features.dtype == np.float32


def test_extracting_leaves_no_trace_in_the_encoder(images: np.ndarray) -> None:
    encoder = TinyEncoder().train()
    encoder.norm.eval()  # a mixed state, as with a frozen layer
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    extract(encoder, images, CPU, batch_size=2, precision="fp32")
    assert encoder.training
    assert encoder.conv.training
    assert not encoder.norm.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.is_grad_enabled()


def test_mode_is_restored_after_an_error() -> None:
    encoder = TinyEncoder().train()
    with pytest.raises(ZeroDivisionError), inference(encoder, CPU, "bf16"):
        _ = 1 / int(encoder.training)
    assert encoder.training
    assert not torch.is_autocast_enabled("cpu")


def test_read_only_memory_map_without_warning(
    images: np.ndarray, tmp_path_factory: pytest.TempPathFactory, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path_factory.mktemp("packed") / "images.npy"
    np.save(path, images)
    mapped = np.load(path, mmap_mode="r")
    encoder = TinyEncoder()
    expected = extract(encoder, images, CPU, 4, "fp32")
    np.testing.assert_array_equal(extract(encoder, mapped, CPU, 4, "fp32"), expected)
    assert not [w for w in recwarn if "writable" in str(w.message)]


def test_bf16_is_close_to_fp32_and_not_the_same(images: np.ndarray) -> None:
    encoder = TinyEncoder()
    full = extract(encoder, images, CPU, 4, "fp32")
    half = extract(encoder, images, CPU, 4, "bf16")
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 0.02 * np.abs(full).max()


def test_prepare_sees_uint8_images_and_row_numbers_in_full_precision(images: np.ndarray) -> None:
    seen: list[int] = []

    def prepare(batch: Tensor, index: Tensor) -> Tensor:
        assert batch.dtype == torch.uint8
        assert batch.shape[1:] == (3, 16, 16)
        for row, image in zip(index.tolist(), batch, strict=True):
            assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(images[row]))
        seen.extend(index.tolist())
        product = torch.rand(4, 4) @ torch.rand(4, 4)
        assert product.dtype == torch.float32  # autocast would make it bf16
        return batch.float() / 255

    extract(TinyEncoder(), images, CPU, batch_size=3, precision="bf16", prepare=prepare)
    assert seen == list(range(7))


def test_a_diverged_encoder_is_told_in_one_line(images: np.ndarray) -> None:
    encoder = TinyEncoder()
    with torch.no_grad():
        encoder.conv.weight[0] = torch.nan
    with pytest.raises(ModelError, match="diverged") as caught:
        extract(encoder, images, CPU, 4, "fp32")
    assert "\n" not in str(caught.value)


def test_unit_rows_keep_direction_and_zeros() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize(("queries", "gallery"), [(10, 5), (1, 1), (9, BLOCK), (7, BLOCK // 2), (5, 3 * BLOCK)])
def test_blocks_cover_every_query_once_and_stay_small(queries: int, gallery: int) -> None:
    covered: list[int] = []
    for block in blocks(queries, gallery):
        covered.extend(range(block.start, block.stop))
        assert block.stop - block.start == 1 or (block.stop - block.start) * gallery <= BLOCK
    assert covered == list(range(queries))
