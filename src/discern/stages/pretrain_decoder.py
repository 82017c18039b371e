"""Stage pretrain_decoder: L_C + alpha L_R → the base encoder and its decoder."""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from discern.embedding.features import extract
from discern.images.packed import evenly_spread
from discern.images.quality import psnr, ssim
from discern.images.views import denormalise, resized, to_uint8, to_unit
from discern.methods.build import build_two_view
from discern.methods.parts.joint_embedding import save_heads
from discern.models.decoder import ImageDecoder, build_decoder
from discern.models.lora import merge_low_rank
from discern.models.pretrained import weight_files
from discern.models.weights import save_decoder, save_encoder
from discern.params.links import check_link
from discern.run.adapt import adapt, given_encoder
from discern.run.context import Context
from discern.run.fit import Inputs, fit, load_inputs, making
from discern.synthesis.reconstruction import ReconstructionObjective
from discern.training.adaptation import prepare
from discern.workspace import atomic_dir, write_figures

TRAINS = True
QUALITY_IMAGES = 256  # training images that PSNR and SSIM are measured on


def run(ctx: Context) -> None:
    """Train the base of one seed and measure its reconstructions."""
    base, params, loss = ctx.params.base, ctx.params.pretrain_decoder, ctx.params.loss
    check_link(Path("methods"), params.loss, loss)
    inputs = load_inputs(ctx, weight_files(base.weights), [base, params, loss])
    start = given_encoder(base, base.weights, ctx.seed)
    encoder = copy.deepcopy(start)
    prepare(encoder, base.adaptation)
    decoder = build_decoder(params.decoder, encoder.dim, ctx.seed)
    method = build_two_view(loss, encoder, len(inputs.train.images), ctx.seed)
    objective = ReconstructionObjective(
        method, decoder, params.reconstruction_weight, params.detach, params.decoder_lr
    )
    # What is kept here is trained on: averages, and the given weights beside it, come at the end.
    checkpoint = fit(ctx, "base", adapt(base, objective, start), params.passes, inputs)
    merge_low_rank(encoder)

    originals, decoded = reconstruct(ctx, encoder, decoder, inputs)
    figures = {"psnr": psnr(originals, decoded), "ssim": ssim(originals, decoded)}
    count = min(len(originals), 16)
    folder = ctx.workspace.base(ctx.seed)
    with atomic_dir(folder) as out:
        description = {"kind": "base", **params.model_dump(), "loss": loss.model_dump()}
        save_encoder(out, encoder, making(ctx, inputs, "base", description, encoder.origin))
        save_decoder(out, decoder, params.decoder, encoder.dim)
        save_heads(out, method)
        shown = np.stack([to_uint8(originals[:count]).numpy(), to_uint8(decoded[:count]).numpy()])
        np.save(out / "reconstructions.npy", shown)
    write_figures(ctx.workspace.stage_metrics("base", ctx.seed), figures)
    ctx.record.metrics(figures)
    ctx.record.artifact(folder, "base")
    checkpoint.discard()


@torch.no_grad()
def reconstruct(
    ctx: Context, encoder: torch.nn.Module, decoder: ImageDecoder, inputs: Inputs
) -> tuple[Tensor, Tensor]:
    """Evenly spread training images at the decoder's resolution and d(f(x)), both (N, 3, R, R) in [0, 1]."""
    images = inputs.train.images[evenly_spread(len(inputs.train.images), QUALITY_IMAGES)]
    x = to_unit(torch.from_numpy(images).permute(0, 3, 1, 2))
    originals = resized(x, decoder.resolution)
    y = extract(encoder, images, ctx.device, 256, ctx.params.base.precision)
    decoder.to(ctx.device).eval()
    decoded = denormalise(decoder(torch.from_numpy(y).to(ctx.device)))
    return originals, decoded.cpu()
