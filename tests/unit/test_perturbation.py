"""Perturbation changes the masked dimensions and leaves every other bit as it is."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from discern.images.quality import psnr, ssim
from discern.images.randomness import seeded
from discern.images.views import denormalise, to_uint8
from discern.models.decoder import build_decoder
from discern.params.synthesis import Decoder, Flatten, Gaussian, Perturbation, Swap
from discern.synthesis.criteria.basis import Basis, fit_basis
from discern.synthesis.pairs.decoding import Synthesizer, synthesize
from discern.synthesis.pairs.perturbation import partners, perturb

KINDS: list[Perturbation] = [
    Swap(kind="swap"),
    Gaussian(kind="gaussian", scale=1.0),
    Flatten(kind="zero"),
    Flatten(kind="mean"),
]
MASK = torch.tensor([True, False, True, True, False, False])


@pytest.fixture
def y() -> torch.Tensor:
    return torch.rand(9, 6, generator=seeded(0)) + 0.1


@pytest.mark.parametrize("basis_kind", ["raw", "pca"])
@pytest.mark.parametrize("params", KINDS, ids=lambda p: p.kind)
def test_unmasked_dimensions_stay_bit_identical(params: Perturbation, basis_kind: str, y: torch.Tensor) -> None:
    basis = fit_basis(y, basis_kind)
    c = basis.coefficients(y)
    for mask in (MASK, torch.rand(9, 6, generator=seeded(1)) < 0.5):
        changed = perturb(c, mask, basis, params, seeded(2))
        full = mask.expand_as(c)
        assert torch.equal(changed[~full], c[~full])
        assert (changed[full] != c[full]).float().mean() > 0.9
        assert torch.equal(perturb(c, torch.zeros_like(mask), basis, params, seeded(2)), c)


def test_what_takes_the_place_of_masked_dimensions(y: torch.Tensor) -> None:
    basis = fit_basis(y, "raw")
    c = basis.coefficients(y)
    swapped = perturb(c, MASK, basis, KINDS[0], seeded(3))
    partner = partners(9, seeded(3))
    torch.testing.assert_close(swapped[:, MASK], c[partner][:, MASK])
    assert (perturb(c, MASK, basis, KINDS[2], seeded(3))[:, MASK] == 0).all()
    torch.testing.assert_close(
        perturb(c, MASK, basis, KINDS[3], seeded(3))[:, MASK], c.mean(0).expand(9, -1)[:, MASK]
    )


def test_gaussian_noise_has_the_mean_spread_and_features_stay_positive() -> None:
    c = torch.full((4000, 3), 5.0)
    sigma = torch.tensor([0.1, 0.2, 0.6])
    basis = Basis("pca", torch.zeros(3), torch.eye(3), torch.zeros(3), sigma)
    changed = perturb(c, torch.ones(3, dtype=torch.bool), basis, Gaussian(kind="gaussian", scale=2.0), seeded(0))
    torch.testing.assert_close((changed - c).std(0), torch.full((3,), 2 * 0.3), rtol=0.05, atol=0)
    raw = Basis("raw", torch.zeros(3), torch.eye(3), torch.zeros(3), sigma)
    low = perturb(torch.zeros(500, 3), torch.tensor([True, False, True]), raw, KINDS[1], seeded(0))
    assert (low >= 0).all()
    assert (low[:, 0] > 0).any()


@pytest.mark.parametrize("count", [2, 3, 50])
def test_partners_are_a_permutation_without_fixed_points(count: int) -> None:
    for seed in range(20):
        partner = partners(count, seeded(seed))
        assert sorted(partner.tolist()) == list(range(count))
        assert (partner != torch.arange(count)).all()


def test_synthesize_decodes_every_copy_of_every_image(y: torch.Tensor) -> None:
    decoder = build_decoder(Decoder(width=16, resolution=16), dim=6, seed=0).eval()
    synthesizer = Synthesizer(decoder, fit_basis(y, "pca"), MASK, KINDS[0])
    original, perturbed = synthesize(synthesizer, y, copies=3, seed=0, batch_size=4)
    assert original.shape == (9, 16, 16, 3)
    assert perturbed.shape == (9, 3, 16, 16, 3)
    expected = to_uint8(denormalise(decoder(y).detach()))
    np.testing.assert_array_equal(original, expected.numpy())
    index = torch.arange(9)
    again = to_uint8(synthesizer.decode(synthesizer.perturbed(y, index, seeded(0, 2, 103)))).numpy()
    np.testing.assert_array_equal(perturbed[:, 2], again)
    assert (perturbed[:, 0] != perturbed[:, 1]).any()
    nothing = Synthesizer(decoder, fit_basis(y, "pca"), torch.zeros(6, dtype=torch.bool), KINDS[0])
    torch.testing.assert_close(nothing.perturbed(y, index, seeded(0)), y, rtol=1e-5, atol=1e-5)


def test_psnr_and_ssim_against_scikit_image() -> None:
    a = torch.rand(2, 3, 32, 32, generator=seeded(0))
    b = (a + 0.1 * torch.randn(2, 3, 32, 32, generator=seeded(1))).clamp(0, 1)
    expected = np.mean([-10 * np.log10(float((x - z).pow(2).mean())) for x, z in zip(a, b, strict=True)])
    assert psnr(a, b) == pytest.approx(expected, abs=1e-4)
    # The library pads and crops; ours has no padding at all. With its crop the two are the same pixels.
    oracle = np.mean(
        [
            structural_similarity(  # type: ignore[no-untyped-call]  # the library ships no types for it
                x.numpy(), z.numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )
            for x, z in zip(a, b, strict=True)
        ]
    )  # fmt: skip
    assert ssim(a, b) == pytest.approx(oracle, abs=2e-3)
    assert ssim(a, a) == pytest.approx(1.0, abs=1e-5)
