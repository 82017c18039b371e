import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discern.evaluation.localisation import energy_inside, grad_cam, grad_cams, heat_maps, localise
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.params.encoder import ResNet

CPU = torch.device("cpu")
SIZE = 32


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    small = build_encoder(ResNet(kind="resnet18", width=8, stem="small_images"), seed=0)
    with torch.no_grad():  # statistics of real batches, so that the maps are not dominated by one channel
        small.train()(torch.randn(16, 3, SIZE, SIZE))
    small.eval()
    return small


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(9, 64))


class WithProbe(nn.Module):
    def __init__(self, encoder: ImageEncoder, weight: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.probe = nn.Linear(weight.shape[1], len(weight))
        with torch.no_grad():
            self.probe.weight.copy_(weight)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.probe(self.encoder(x))
        return logits


@pytest.mark.slow
def test_closed_form_agrees_with_pytorch_grad_cam(
    encoder: ImageEncoder, images: np.ndarray, weight: np.ndarray
) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from discern.images.views import normalise

    classes = [0, 3, 1, 2, 3, 0, 1, 1, 2]
    model = WithProbe(encoder, torch.tensor(weight[:4]).float()).eval()
    x = normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
    with GradCAM(model, target_layers=[encoder.layer4]) as oracle:
        expected = oracle(x, targets=[ClassifierOutputTarget(c) for c in classes])
    ours = np.concatenate(list(grad_cams(encoder, images, weight[classes], CPU, 4, "fp32")))
    assert ours.shape == expected.shape == (9, SIZE, SIZE)
    drawn = ours.any(axis=(1, 2))
    np.testing.assert_array_equal(drawn, expected.any(axis=(1, 2)))
    assert drawn.sum() >= 5
    for cam, reference in zip(ours[drawn], expected[drawn], strict=True):
        assert np.corrcoef(cam.ravel(), reference.ravel())[0, 1] > 0.999


def test_closed_form_equals_autograd(encoder: ImageEncoder, weight: np.ndarray) -> None:
    x = torch.randn(9, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    weights = torch.tensor(weight).float()
    feature_map = encoder.feature_map(x).detach().requires_grad_()
    logits = (feature_map.mean((2, 3)) * weights).sum()
    (gradient,) = torch.autograd.grad(logits, feature_map)
    alpha = gradient.mean((2, 3))  # Grad-CAM's channel weights
    height, width = feature_map.shape[2:]
    expected = torch.zeros(9, height, width)
    for n in range(9):
        for k in range(64):
            expected[n] += alpha[n, k] * feature_map[n, k].detach()
    cams = grad_cam(feature_map.detach(), weights, size=height)  # no upsampling
    torch.testing.assert_close(cams, expected.clamp(min=0), rtol=1e-4, atol=1e-6)
    assert (cams > 0).any()


def test_upsampling_is_bilinear_between_pixel_centres() -> None:
    feature_map = torch.tensor([[[[0.0, 4.0], [0.0, 4.0]]]])  # (1,1,2,2)
    cam = grad_cam(feature_map, torch.ones(1, 1), size=4)
    torch.testing.assert_close(cam[0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))  # / (H'W') = 4


def test_negative_evidence_is_cut_off() -> None:
    assert grad_cam(torch.ones(1, 3, 2, 2), -torch.ones(1, 3), size=4).abs().max() == 0


def test_batches_do_not_change_the_maps_and_the_encoder_is_left_alone(
    encoder: ImageEncoder, images: np.ndarray, weight: np.ndarray
) -> None:
    whole = np.concatenate(list(grad_cams(encoder, images, weight, CPU, 9, "fp32")))
    first = next(iter(grad_cams(encoder.train(), images, weight, CPU, 2, "fp32")))  # and abandoned
    assert encoder.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert all(not module._forward_hooks for module in encoder.modules())
    encoder.eval()
    np.testing.assert_allclose(first, whole[:2], rtol=1e-4, atol=1e-6)


def test_energy_inside_by_hand() -> None:
    cams = np.zeros((4, 2, 2), np.float32)
    cams[0] = [[1, 2], [3, 4]]
    cams[1] = 1
    cams[3] = 1
    masks = np.zeros((4, 2, 2), bool)
    masks[0, 0] = True  # 1 + 2 of 10
    masks[1] = True
    masks[2] = True  # the map is zero
    np.testing.assert_allclose(energy_inside(cams, masks), [0.3, 1.0, np.nan, np.nan])


def test_localise_equals_a_loop_and_counts_what_it_excludes(
    encoder: ImageEncoder, images: np.ndarray, weight: np.ndarray
) -> None:
    masks = np.random.default_rng(3).random((9, SIZE, SIZE)) < 0.2
    masks[:, :, : SIZE // 2] = False
    masks[4] = False
    weight[7] = 0  # an image without a label
    result = localise(encoder, images, masks, weight, CPU, 4, "fp32")
    cams = np.concatenate(list(grad_cams(encoder, images, weight, CPU, 9, "fp32")))
    for n in range(9):
        if n in (4, 7) or not cams[n].any():
            assert np.isnan(result.energy[n])
            assert np.isnan(result.area[n])
            continue
        inside = sum(float(cams[n, i, j]) for i in range(SIZE) for j in range(SIZE) if masks[n, i, j])
        assert result.energy[n] == pytest.approx(inside / float(cams[n].sum()), rel=1e-4)
        assert result.area[n] == pytest.approx(masks[n].sum() / SIZE**2)
    assert result.excluded == np.isnan(result.energy).sum() >= 2
    assert (~np.isnan(result.energy)).sum() >= 5


def test_a_map_without_preference_has_energy_equal_to_area() -> None:
    masks = np.random.default_rng(0).random((5, 8, 8)) < 0.3
    np.testing.assert_allclose(energy_inside(np.ones((5, 8, 8)), masks), masks.mean(axis=(1, 2)))


def test_heat_maps_use_the_full_range_and_keep_zeros() -> None:
    cams = np.zeros((2, 2, 2), np.float32)
    cams[0] = [[0, 0.1], [0.2, 0.4]]
    assert heat_maps(cams).tolist() == [[[0, 64], [128, 255]], [[0, 0], [0, 0]]]
    assert heat_maps(cams).dtype == np.uint8
