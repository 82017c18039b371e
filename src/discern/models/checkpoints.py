"""Names of other people's checkpoints to an encoder's own, and an encoder filled with them.

What stands around an encoder in a checkpoint of self-supervised training (momentum copies, projectors, queues) is
left out; its prefixes are stripped until the encoder's names appear. Networks of timm then go through timm's own
conversion, which knows the names of DINOv2, CLIP and others and interpolates positions to another grid.
"""

import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from discern.errors import ModelError
from discern.models.encoder import ImageEncoder
from discern.params.encoder import Timm

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]

# What stands before an encoder's names; where several do, the first is the one to use.
PREFIXES = (
    "module.", "_orig_mod.", "model.", "encoder_q.", "base_encoder.", "teacher.", "target_encoder.",
    "teacher_backbone.", "student_backbone.", "student.", "backbone.", "encoder.", "network.",
)  # fmt: skip
# What stands beside an encoder: copies, heads, projectors, queues, MAE's decoder, the makers' classifiers.
BESIDE = re.compile(
    r"(momentum|teacher|student|encoder_k|base_momentum|backbone_momentum|ema|online|head|fc|classif|linear|mlp"
    r"|project|predict|prototypes|decoder|queue|mask_token|attn_pool|knn|dino|ibot|koleo|loss|criterion|center"
    r"|n_averaged|metric)\w*(\.|$)"
)
# Torchvision's ResNets as lightly's users put them into nn.Sequential: children by number.
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
NAMED = 3  # names that an error lists


def fill(encoder: ImageEncoder, state: State, path: Path) -> None:
    """Copy the weights of a checkpoint into an encoder.

    Args:
        encoder: changed in place, and only where everything fits.
        state: tensors by the checkpoint's names.
        path: its file, for errors.

    Raises:
        ModelError: it does not fit; what is missing, of another shape or too much is named.
    """
    timms = isinstance(encoder.params, Timm)
    network = encoder.get_submodule("network") if timms else encoder
    expected, unused = network.state_dict(), _unused(network)
    found = inner(state, set(expected))
    if timms and not _fits(found, expected):
        found = converted(found, network, path)
        if "fc_norm.weight" in found and "norm.weight" in expected and "norm.weight" not in found:
            log.info("%s: fc_norm is applied to every token, not to their mean", path)
            found = {name.replace("fc_norm.", "norm."): tensor for name, tensor in found.items()}
    missing = [
        name
        for name in expected
        # Files older than torch 0.4.1 lack the counters, and torch leaves them as they are.
        if name not in found and not name.endswith("num_batches_tracked") and not name.startswith(unused)
    ]
    other = [
        f"{name} ({tuple(found[name].shape)}, in base.encoder {tuple(tensor.shape)})"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape and not name.startswith(unused)
    ]
    beside = [name for name in found if name not in expected and BESIDE.match(name)]
    more = [name for name in found if name not in expected and name not in beside]
    problems = [
        *([f"missing: {_named(missing)}"] if missing else []),
        *([f"of another shape: {_named(other)}"] if other else []),
        *([f"not in base.encoder: {_named(more)}"] if more else []),
    ]
    if problems:
        raise ModelError(f"{path}: {'; '.join(problems)}; does base.encoder describe this network?")
    if beside:
        log.info("%s: left out: %s", path, _named(beside))
    same = {
        name: found[name] for name, old in expected.items() if name in found and found[name].shape == old.shape
    }
    network.load_state_dict({**expected, **same})


def inner(state: State, expected: set[str]) -> dict[str, Tensor]:
    """The encoder's part of a checkpoint, without what stands before its names.

    Args:
        state: tensors by the checkpoint's names.
        expected: the encoder's names.
    """
    found = dict(state)
    while not expected <= set(found):
        prefix = next((p for p in PREFIXES if _is_before_all(p, found)), None)
        if prefix is None:
            break
        left_out = [name for name in found if not name.startswith(prefix)]
        if left_out:
            log.info("beside %s* in the checkpoint, left out: %s", prefix, _named(left_out))
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    if "conv1.weight" in expected and {name.partition(".")[0] for name in found} == set(CHILDREN):
        parted = ((name.partition("."), tensor) for name, tensor in found.items())
        found = {f"{CHILDREN[number]}.{rest}": tensor for (number, _, rest), tensor in parted}
    return found


def converted(state: State, network: nn.Module, path: Path) -> dict[str, Tensor]:
    """What timm makes of weights by their makers' names, with positions interpolated to the network's grid.

    Args:
        state: tensors by name.
        network: of timm.
        path: their file, for errors.

    Raises:
        ModelError: timm cannot read them.
    """
    # Timm has no table of these; the module that defines a family holds its function.
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return dict(state)
    try:
        found: dict[str, Tensor] = convert(dict(state), network)
    except Exception as error:  # timm's functions take for granted what they look for
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ModelError(f"{path}: timm cannot read it as {type(network).__name__} ({reason})") from error
    resampled = [k for k, v in found.items() if k in state and v.ndim > 1 and v.shape != state[k].shape]
    if resampled:
        log.info("%s: interpolated to the network's grid: %s", path, _named(resampled))
    return found


def _is_before_all(prefix: str, state: State) -> bool:
    """Whether the prefix stands before something, and before everything that does not belong beside an encoder."""
    within = [name for name in state if name.startswith(prefix)]
    return bool(within) and all(name.startswith(prefix) or BESIDE.match(name) for name in state)


def _fits(found: State, expected: State) -> bool:
    """Whether nothing is missing, of another shape, or too much."""
    inside = all(_is_like(found.get(name), tensor) for name, tensor in expected.items())
    return inside and all(name in expected or BESIDE.match(name) for name in found)


def _is_like(found: Tensor | None, old: Tensor) -> bool:
    return found is not None and found.shape == old.shape


def _unused(network: nn.Module) -> tuple[str, ...]:
    """What of a network of timm stands behind its features: nothing of it is used, whatever it holds."""
    classifiers = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    return tuple(f"{name.partition('.')[0]}." for name in names)


def _named(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
