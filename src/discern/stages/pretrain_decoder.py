"""Stage pretrain_decoder: L_C + alpha L_R → the base encoder and its decoder."""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from discern.data.views import denormalise, to_unit
from discern.evaluation.features import extract
from discern.models.decoder import ImageDecoder, build_decoder
from discern.models.encoder import build_encoder
from discern.models.pretrained import initialise, weight_files
from discern.models.weights import save_decoder, save_encoder
from discern.ssl.base import build_method
from discern.stages.context import Context
from discern.stages.runner import execute
from discern.stages.training import Inputs, fit, load_inputs, save_head
from discern.synthesis.pairs import to_uint8
from discern.synthesis.quality import psnr, ssim
from discern.training.objectives import ContrastiveObjective
from discern.workspace import atomic_dir, atomic_file

QUALITY_IMAGES = 256  # training images that PSNR and SSIM are measured on


def run(ctx: Context) -> None:
    """Train the base of one seed and measure its reconstructions."""
    base, params = ctx.params.base, ctx.params.pretrain_decoder
    inputs = load_inputs(ctx, weight_files(base.weights), [base, params])
    encoder = build_encoder(base.encoder, ctx.seed)
    initialise(encoder, base.weights)
    decoder = build_decoder(params.decoder, encoder.dim, ctx.seed)
    method = build_method(params.loss, encoder, len(inputs.train.images), ctx.seed)
    objective = ContrastiveObjective(
        method, decoder, params.reconstruction_weight, params.detach, params.decoder_lr
    )
    checkpoint = fit(ctx, "base", objective, params.passes, inputs)

    originals, decoded = reconstruct(ctx, encoder, decoder, inputs)
    figures = {"psnr": psnr(originals, decoded), "ssim": ssim(originals, decoded)}
    count = min(len(originals), 16)
    folder = ctx.workspace.base(ctx.seed)
    with atomic_dir(folder) as out:
        save_encoder(out, encoder, inputs.size)
        save_decoder(out, decoder, params.decoder, encoder.dim)
        save_head(out, method)
        shown = np.stack([to_uint8(originals[:count]).numpy(), to_uint8(decoded[:count]).numpy()])
        np.save(out / "reconstructions.npy", shown)
    with atomic_file(ctx.workspace.stage_metrics("base", ctx.seed)) as partial:
        partial.write_text(json.dumps({k: round(v, 6) for k, v in figures.items()}, indent=2) + "\n")
    ctx.record.metrics(figures)
    ctx.record.artifact(folder, "base")
    checkpoint.discard()


@torch.no_grad()
def reconstruct(
    ctx: Context, encoder: torch.nn.Module, decoder: ImageDecoder, inputs: Inputs
) -> tuple[Tensor, Tensor]:
    """Evenly spread training images at the decoder's resolution and d(f(x)), both (N, 3, R, R) in [0, 1]."""
    total = len(inputs.train.images)
    rows = torch.linspace(0, total - 1, min(QUALITY_IMAGES, total)).long()
    images = inputs.train.images[rows.numpy()]
    x = to_unit(torch.from_numpy(images).permute(0, 3, 1, 2))
    originals = F.interpolate(x, size=decoder.resolution, mode="bilinear", antialias=True)
    y = extract(encoder, images, ctx.device, 256, ctx.params.base.precision)
    decoder.to(ctx.device).eval()
    decoded = denormalise(decoder(torch.from_numpy(y).to(ctx.device)))
    return originals, decoded.cpu()


if __name__ == "__main__":
    sys.exit(execute("pretrain_decoder", run, trains=True))
