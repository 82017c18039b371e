"""Training from given weights: every remedy against what it says, on tiny networks of timm."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor, nn

from discern.errors import ParamsError
from discern.images.views import Augment
from discern.methods.build import build_two_view
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.models.build import build_encoder
from discern.models.corrected import Correction
from discern.models.encoder import ImageEncoder, has_feature_map
from discern.models.lora import LowRank
from discern.models.making import Making
from discern.models.side_by_side import side_by_side
from discern.models.weights import load_encoder, save_encoder
from discern.params.base import NEUTRAL, Adaptation, Views
from discern.params.encoder import Timm
from discern.params.two_view import SimCLR
from discern.training.adaptation import Adapted, batch_norms, layer_rates, prepare
from discern.training.objective import Batch, Objective, Terms

CNN, VIT = (Timm(kind="timm", name=name) for name in ("test_efficientnet", "test_vit"))
LOSS = SimCLR(kind="simclr", rate=1.0, temperature=0.2, hidden=16, dim=8)
VIEWS = Views(
    crop_area=(0.5, 1.0), flip=0.5, jitter=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0,
    grayscale=0.0, solarize=0.0, blur=0.0, blur_sigma=(0.1, 0.2),
)  # fmt: skip
AUGMENT = Augment(VIEWS, 32, seed=0)


def remedies(**changes: Any) -> Adaptation:
    return Adaptation.model_validate({**NEUTRAL, **changes})


def batch(images: int = 8) -> Batch:
    pixels = torch.randint(0, 256, (images, 3, 32, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    return Batch(pixels, torch.arange(images), epoch=0, step=0, steps=4)


def adapted(params: Adaptation, network: Timm = CNN) -> Adapted:
    start = build_encoder(network, seed=0)
    encoder = copy.deepcopy(start)
    prepare(encoder, params)
    inner = ContrastiveObjective(build_two_view(LOSS, encoder, images=8, seed=0))
    return Adapted(inner, params, start).train()


def trained(objective: Objective, steps: int = 3, lr: float = 0.05) -> None:
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        torch.autograd.backward(objective(batch(), AUGMENT).loss)
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()


def state(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def features(encoder: ImageEncoder) -> Tensor:
    with torch.inference_mode():
        y: Tensor = encoder.eval()(torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
        return y


def test_neutral_values_are_those_of_params_yaml() -> None:
    assert remedies().neutral
    assert not remedies(side_by_side=True).neutral


def test_fixed_stages_stay_to_the_bit_and_the_others_move() -> None:
    objective = adapted(remedies(fixed_stages=3))
    before, depths = state(objective.encoder), objective.encoder.depths(coarse=True)
    trained(objective)
    after = state(objective.encoder)
    for name, depth in depths.items():
        assert torch.equal(before[name], after[name]) == (depth < 3), name
    statistics = [name for name in before if name.endswith("running_mean")]
    first, last = min(statistics), max(statistics)
    assert torch.equal(before[first], after[first])  # normalisation of what is fixed keeps its statistics
    assert not torch.equal(before[last], after[last])


def test_more_fixed_stages_than_there_are_is_an_error_that_says_how_many() -> None:
    with pytest.raises(ParamsError, match=r"fixed_stages = 99: the encoder has \d+ stages"):
        prepare(build_encoder(CNN, 0), remedies(fixed_stages=99))


def test_without_momentum_normalisation_keeps_the_statistics_it_came_with() -> None:
    for momentum, kept in ((0.0, True), (0.01, False)):
        objective = adapted(remedies(batch_norm_momentum=momentum))
        before = state(objective.encoder)
        trained(objective)
        after = objective.encoder.state_dict()
        names = [name for name in before if name.endswith("running_var")]
        assert all(torch.equal(before[name], after[name]) == kept for name in names)
        assert all(norm.momentum == momentum for norm in batch_norms(objective.encoder))


def test_rates_fall_from_block_to_block() -> None:
    encoder = build_encoder(VIT, 0)
    rates = layer_rates(encoder, 0.5)
    named = dict(encoder.named_parameters())
    depths = encoder.depths(coarse=False)
    last = max(depths.values())
    assert rates[named["network.pos_embed"]] == 0.5**last
    assert rates[named["network.blocks.5.attn.qkv.weight"]] == 1.0
    assert rates[named["network.blocks.3.attn.qkv.weight"]] == 0.25
    assert layer_rates(encoder, 1.0) == {}


def test_distillation_is_the_mean_distance_to_the_given_features() -> None:
    objective = adapted(remedies(distillation=0.7, batch_norm_momentum=0.0))
    with torch.no_grad():
        for p in objective.encoder.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    terms: Terms = objective(batch(), AUGMENT)
    plain: Terms = objective.inner(batch(), AUGMENT)
    views = [AUGMENT(batch().images, batch().index, 0, view) for view in (0, 1)]
    distances = []
    for view in views:
        for x in view:  # one image at a time
            y, wanted = objective.encoder(x[None]), objective.start(x[None])
            distances.append(1 - (y @ wanted.T).item() / (y.norm() * wanted.norm()).item())
    assert terms.parts["distillation"].item() == pytest.approx(np.mean(distances), abs=1e-5)
    assert terms.loss.item() == pytest.approx(plain.loss.item() + 0.7 * np.mean(distances), abs=1e-4)
    assert objective.passes == 2 * objective.inner.passes  # those of the given weights are paid for
    torch.autograd.backward(terms.loss)
    assert all(p.grad is None for p in objective.start.parameters())


def test_the_average_follows_every_weight_and_is_what_is_kept() -> None:
    objective = adapted(remedies(average=0.9))
    expected = state(objective.encoder)
    optimizer = torch.optim.SGD(objective.inner.parameters(), lr=0.05)
    for _ in range(3):
        torch.autograd.backward(objective(batch(), AUGMENT).loss)
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()
        for name, value in objective.encoder.state_dict().items():
            whole = not value.is_floating_point()
            expected[name] = value.clone() if whole else 0.9 * expected[name] + 0.1 * value
    kept = objective.kept()
    assert kept is not objective.encoder
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_a_share_of_the_given_weights_is_kept() -> None:
    objective = adapted(remedies(start_share=0.25))
    start = state(objective.start)
    trained(objective)
    after = state(objective.encoder)
    for name, value in objective.kept().state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * start[name] + 0.75 * after[name])


def test_low_rank_updates_train_alone_and_end_as_ordinary_weights() -> None:
    objective = adapted(remedies(lora_rank=2), VIT)
    start = state(objective.start)
    moving = [name for name, p in objective.encoder.named_parameters() if p.requires_grad]
    assert moving
    assert all(name.rpartition(".")[2] in "AB" for name in moving)
    updates = [module for module in objective.encoder.modules() if isinstance(module, LowRank)]
    assert len(updates) == 12  # qkv and proj of six blocks
    torch.testing.assert_close(features(objective.encoder), features(objective.start))
    trained(objective.train(), lr=1.0)
    with_updates = features(objective.encoder)
    kept = objective.kept()
    assert kept.state_dict().keys() == start.keys()
    torch.testing.assert_close(features(kept), with_updates)
    changed = {name for name, value in kept.state_dict().items() if not torch.equal(value, start[name])}
    assert changed == {name for name in start if ".attn." in name and name.endswith(("qkv.weight", "proj.weight"))}


def test_low_rank_updates_need_attention() -> None:
    with pytest.raises(ParamsError, match="lora_rank: the encoder has no attention"):
        prepare(build_encoder(CNN, 0), remedies(lora_rank=2))


@pytest.mark.parametrize("network", [CNN, VIT])
def test_side_by_side_are_both_encoders_features_of_length_1(network: Timm, tmp_path: Path) -> None:
    start, other = build_encoder(network, 0), build_encoder(network, 1)
    both = side_by_side(start, other)
    parts = [F.normalize(features(part)) for part in (start, other)]
    torch.testing.assert_close(features(both), torch.cat(parts, dim=1), rtol=1e-4, atol=1e-5)
    assert both.dim == 2 * start.dim
    assert has_feature_map(both)
    save_encoder(tmp_path, both, Making(32))
    assert torch.equal(features(load_encoder(tmp_path)), features(both))


def test_corrections_are_those_of_principal_component_analysis(tmp_path: Path) -> None:
    encoder = build_encoder(CNN, 0)
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(400, encoder.dim, generator=generator) * torch.linspace(0.1, 2, encoder.dim) + 5
    correction = Correction(rows)
    oracle = PCA(6).fit(rows.double().numpy())
    expected = oracle.transform(rows.double().numpy())
    found = correction.apply(rows, 6, 0.0).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    whitened = correction.apply(rows, 6, 1.0)
    torch.testing.assert_close(whitened.std(0), torch.ones(6), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(correction.apply(rows, 0, 0.5), rows - rows.mean(0), rtol=1e-4, atol=1e-4)

    around = correction.around(encoder, 6, 0.25)
    torch.testing.assert_close(
        features(around), correction.apply(features(encoder), 6, 0.25), rtol=1e-3, atol=1e-3
    )
    save_encoder(tmp_path, around, Making(32))
    torch.testing.assert_close(features(load_encoder(tmp_path)), features(around))  # sums in another layout


def test_few_images_give_few_components() -> None:
    correction = Correction(torch.randn(40, 24, generator=torch.Generator().manual_seed(0)))
    assert correction.matrix(256, 0.25).shape == (24, 10)  # four images each


def test_state_holds_the_average_and_not_the_given_weights() -> None:
    names = adapted(remedies(average=0.5)).state_dict().keys()
    assert any(name.startswith("averaged.") for name in names)
    assert not any("start" in name for name in names)
