"""discern's objectives at a benchmark's sizes, with lightly's default augmentation for both."""

import numpy as np
import torch

from benchmarks.setting import Setting
from discern.images.loading import Budget, ImageStore
from discern.methods.build import build_two_view
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.models.build import build_encoder
from discern.models.decoder import ImageDecoder, build_decoder
from discern.params.base import NEUTRAL, Adaptation, Base, Optimizer, Views
from discern.params.encoder import ResNet
from discern.params.synthesis import Decoder, Swap, TrainEncoder
from discern.params.two_view import MoCo, SimCLR
from discern.synthesis.criteria.basis import fit_basis
from discern.synthesis.pairs.decoding import Synthesizer
from discern.synthesis.pairs.objective import PairObjective
from discern.synthesis.pairs.sources import OfflinePairs, OnlinePairs, PairSource
from discern.training.objective import Objective


def parameters(setting: Setting) -> Base:
    """What every method shares; views as lightly's SimCLRTransform draws them."""
    return Base(
        precision="bf16",
        deterministic=False,
        batch_size=setting.batch,
        accumulate=1,
        sync_batch_norm=False,
        encoder=ResNet(kind=setting.network, width=setting.width, stem="imagenet"),
        weights="none",
        adaptation=Adaptation.model_validate(NEUTRAL),
        views=Views(
            crop_area=(0.08, 1.0), flip=0.5, jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2,
            grayscale=0.2, solarize=0.0, blur=0.5,
            # Ours are in pixels of a 224 px image, lightly's in pixels of the view.
            blur_sigma=(0.1 * 224 / setting.size, 2.0 * 224 / setting.size),
        ),
        optimizer=Optimizer(kind="sgd", lr=0.06, momentum=0.9, weight_decay=5e-4, clip=0.0, warmup=0.1),
    )  # fmt: skip


def build(method: str, setting: Setting, device: torch.device) -> Objective:
    """SimCLR, MoCo, or pair training with pairs made offline or online."""
    encoder = build_encoder(parameters(setting).encoder, 0)
    if method == "moco":
        moco = MoCo(
            kind="moco", rate=1.0, temperature=0.2, hidden=encoder.dim, dim=128, queue=setting.queue,
            momentum=0.99, batch_norm=False, allow_long_queue=True,
        )  # fmt: skip
        return ContrastiveObjective(build_two_view(moco, encoder, setting.images, 0))
    simclr = SimCLR(kind="simclr", rate=1.0, temperature=0.5, hidden=encoder.dim, dim=128)
    contrastive = build_two_view(simclr, encoder, setting.images, 0)
    if method == "simclr":
        return ContrastiveObjective(contrastive)
    shape = Decoder(width=128, resolution=setting.resolution)
    decoder = build_decoder(shape, encoder.dim, 0).to(device)
    params = TrainEncoder(
        passes=1, pair_weight=1.0, reconstruction_weight=0.0, pair="real", source=method, batch_norm="separate",
        augment=True, warmup=0.0,
    )  # fmt: skip
    return PairObjective(contrastive, decoder, _source(method, setting, decoder, device), params, setting.size)


def _source(method: str, setting: Setting, decoder: ImageDecoder, device: torch.device) -> PairSource:
    if method == "offline":
        shape = (setting.images, setting.resolution, setting.resolution, 3)
        made = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return OfflinePairs(ImageStore(made, device, Budget(2**62)), 1, None, seed=0)
    dim = decoder.linear.in_features
    basis = fit_basis(torch.rand(2 * dim, dim, generator=torch.Generator().manual_seed(0)), "pca").to(device)
    mask = torch.arange(dim) >= dim // 10
    return OnlinePairs(Synthesizer(decoder, basis, mask, Swap(kind="swap")), originals=False, seed=0)
