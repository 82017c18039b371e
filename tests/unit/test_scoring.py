"""The closed form of the Grad-CAM importance, the basis, and the choice of dimensions."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM

from discern.methods.build import build_two_view
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.models.build import build_encoder
from discern.params.encoder import ResNet, Timm
from discern.params.synthesis import ScoreFeatures
from discern.params.two_view import SimCLR
from discern.synthesis.criteria.agreement import between_share
from discern.synthesis.criteria.basis import fit_basis, load_basis, save_basis
from discern.synthesis.criteria.overlays import ContrastiveTarget, _WithMap, loss_heat_maps
from discern.synthesis.criteria.scoring import control_mask, importance, loss_gradients, lowest, select

PARAMS = ScoreFeatures(
    basis="raw", sign="absolute", combine="union", low_variance=0.5, low_importance=0.5, mask="dataset"
)


ENCODERS: dict[str, ResNet | Timm] = {
    "resnet18": ResNet(kind="resnet18", width=8, stem="small_images"),
    **{name: Timm(kind="timm", name=name) for name in ("test_vit", "test_efficientnet")},
}


@pytest.fixture(params=ENCODERS)
def method(request: pytest.FixtureRequest) -> JointEmbedding:
    encoder = build_encoder(ENCODERS[request.param], seed=0)
    params = SimCLR(kind="simclr", rate=1.0, temperature=0.5, hidden=32, dim=16)
    return build_two_view(params, encoder, images=8, seed=0).eval()


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 32, 32, generator=generator)
    return x, x + 0.3 * torch.randn(5, 3, 32, 32, generator=generator)


def test_gradient_of_pooled_features_is_that_of_the_whole_graph(
    method: JointEmbedding, views: tuple[torch.Tensor, torch.Tensor]
) -> None:
    y, gradient = loss_gradients(method, *views)
    feature_map = method.encoder.feature_map(views[0])
    loss = method.contrast(feature_map.mean((2, 3)), method.target(views[1]).detach())
    (full,) = torch.autograd.grad(loss, feature_map)  # (N, D, H', W')
    positions = full.shape[2] * full.shape[3]
    torch.testing.assert_close(full, (gradient / positions)[:, :, None, None].expand_as(full))
    # Grad-CAM as defined: weights are gradients averaged over positions, importance their product with F.
    weights = full.mean((2, 3))
    by_definition = (weights[:, :, None, None] * feature_map).mean((2, 3))
    closed = importance(y, gradient, fit_basis(y, "raw"), positions, "absolute")
    torch.testing.assert_close(closed, by_definition.abs(), rtol=1e-4, atol=1e-9)


def test_closed_form_is_pytorch_grad_cams_weights(
    method: JointEmbedding, views: tuple[torch.Tensor, torch.Tensor]
) -> None:
    seen: dict[str, np.ndarray] = {}

    class Spy(GradCAM):  # type: ignore[misc]  # the library ships no types
        def get_cam_weights(self, *args: object) -> np.ndarray:
            seen["weights"] = np.asarray(super().get_cam_weights(*args))
            seen["activations"] = np.asarray(args[3])
            return seen["weights"]

    with torch.no_grad():
        y, target = method.encoder(views[0]), method.target(views[1])
    model = _WithMap(method.encoder)
    with Spy(model=model, target_layers=[model.map]) as cam:
        cam(input_tensor=views[0], targets=[ContrastiveTarget(method, i, y, target) for i in range(5)])
    # The library's target sees one row; so must our gradient here: row i of the loss that holds the others fixed
    # is row i of the batch's gradient, since the loss is one scalar of all rows.
    _, gradient = loss_gradients(method, *views)
    positions = np.prod(seen["activations"].shape[2:])
    np.testing.assert_allclose(-seen["weights"], gradient.numpy() / positions, rtol=1e-3, atol=1e-8)
    theirs = np.abs((seen["weights"][:, :, None, None] * seen["activations"]).mean((2, 3)))
    ours = importance(y, gradient, fit_basis(y, "raw"), int(positions), "absolute")
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3, atol=1e-8)


def test_heat_maps_are_as_large_as_the_images_and_leave_no_gradient(
    method: JointEmbedding, views: tuple[torch.Tensor, torch.Tensor]
) -> None:
    maps = loss_heat_maps(method, *views, count=3)
    assert maps.shape == (3, 32, 32)
    assert np.isfinite(maps).all()
    assert all(p.grad is None for p in method.parameters())


def test_signs_split_the_importance() -> None:
    y, gradient = torch.rand(4, 6), torch.randn(4, 6)
    basis = fit_basis(y, "raw")
    absolute, positive, negative = (
        importance(y, gradient, basis, 3, sign) for sign in ("absolute", "positive", "negative")
    )
    torch.testing.assert_close(positive + negative, absolute)
    assert ((positive == 0) | (negative == 0)).all()
    torch.testing.assert_close(absolute, (y * gradient / 3).abs())


@pytest.mark.parametrize("kind", ["raw", "pca"])
def test_basis_is_orthonormal_and_turns_back(kind: str) -> None:
    y = torch.rand(40, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 7))
    basis = fit_basis(y, kind)
    torch.testing.assert_close(basis.vectors @ basis.vectors.T, torch.eye(6), atol=1e-5, rtol=0)
    c = basis.coefficients(y)
    torch.testing.assert_close(basis.features(c, y.norm(dim=1, keepdim=True)), y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(c.std(0), basis.sigma, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(c.mean(0), basis.centre, atol=1e-6, rtol=1e-4)


def test_pca_is_numpys_and_importance_adds_up_along_it() -> None:
    y = torch.randn(50, 5, generator=torch.Generator().manual_seed(1)) + 2
    basis = fit_basis(y, "pca")
    u = (y / y.norm(dim=1, keepdim=True)).double().numpy()
    singular = np.linalg.svd(u - u.mean(0), compute_uv=False)
    np.testing.assert_allclose(basis.sigma.numpy(), singular / np.sqrt(49), atol=1e-6)
    # A directional derivative does not depend on the basis: sum_k c_k dL/dc_k = (u - mu) . dL/du.
    gradient = torch.randn(50, 5)
    total = (basis.coefficients(y) * basis.gradients(gradient, y)).sum(1)
    centred = torch.nn.functional.normalize(y) - basis.mean
    torch.testing.assert_close(
        total, (centred * gradient * y.norm(dim=1, keepdim=True)).sum(1), atol=1e-4, rtol=1e-4
    )


def test_basis_file_comes_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("basis") / "basis.safetensors"
    basis, mask = fit_basis(torch.rand(20, 4), "pca"), torch.tensor([True, False, True, True])
    save_basis(path, basis, mask)
    loaded, loaded_mask = load_basis(path)
    assert loaded.kind == "pca"
    assert torch.equal(loaded.vectors, basis.vectors)
    assert torch.equal(loaded_mask, mask)


def test_lowest_counts_and_breaks_ties_by_position() -> None:
    assert lowest(torch.tensor([3.0, 1.0, 2.0, 0.0]), 0.5).tolist() == [False, True, False, True]
    assert lowest(torch.zeros(4), 0.25).tolist() == [True, False, False, False]
    assert lowest(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 0.5).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        ("variance", [True, True, False, False]),
        ("gradcam", [True, False, True, False]),
        ("union", [True, True, True, False]),
        ("intersection", [True, False, False, False]),
    ],
)
def test_select_combines_the_two_criteria(combine: str, expected: list[bool]) -> None:
    variance, scores = torch.tensor([0.1, 0.2, 0.8, 0.9]), torch.tensor([0.1, 0.7, 0.2, 0.9])
    params = PARAMS.model_copy(update={"combine": combine})
    assert select(variance, scores, params).tolist() == expected
    both = select(variance, torch.stack([scores, scores.flip(0)]), params)
    assert both.shape == (2, 4)
    assert both[0].tolist() == expected


def test_control_masks() -> None:
    mask = torch.arange(100) < 90
    generator = torch.Generator().manual_seed(0)
    random = control_mask(mask, "random", generator)
    assert int(random.sum()) == 90
    assert not torch.equal(random, mask)
    assert torch.equal(control_mask(mask, "discriminative", generator), ~mask)


def test_between_share_against_a_loop() -> None:
    values, groups = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 4
    values[:, 0] += groups * 5
    expected = []
    for k in range(3):
        overall = values[:, k].mean()
        between = sum((values[groups == g, k].mean() - overall) ** 2 for g in groups) / 30
        expected.append(between / ((values[:, k] - overall) ** 2).mean())
    np.testing.assert_allclose(between_share(values, groups), expected)
    assert expected[0] > 0.9
