"""Timm's weights from a hub on this machine that answers as Hugging Face's does, and from none at all."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save
from torch import nn

from discern.errors import DownloadError, ParamsError
from discern.models import hub
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.pretrained import initialise
from discern.params.encoder import NetworkModel, Timm
from discern.settings import settings
from tests.methods import ENCODER

VIT = Timm(kind="timm", name="test_vit")
REPOSITORY = "timm/test_vit.r160_in1k"
FIRST, SECOND = "a" * 40, "b" * 40  # commits


class Hub:
    """A hub with one repository of two commits.

    Attributes:
        url: where it answers.
        networks: whole networks by commit.
        asked: methods and paths of all requests.
        branch: the commit that main means.
        damage: whether it sends other bytes than it announces.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.branch = FIRST
        self.damage = False
        self.networks: dict[str, nn.Module] = {}
        for seed, commit in enumerate((FIRST, SECOND)):
            torch.manual_seed(seed)
            self.networks[commit] = timm.create_model("test_vit")

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Commit and content, None where there is no such file."""
        head, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        commit = self.branch if revision == "main" else revision
        if head != f"/{REPOSITORY}" or commit not in self.networks or file != "model.safetensors":
            return None
        return commit, save(self.networks[commit].state_dict())


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            found.asked.append(f"{self.command} {self.path}")
            answer = found.answer(self.path)
            commit, content = answer or ("", b"")
            self.send_response(200 if answer else 404)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            if not answer:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[:-1] + b"?" if found.damage else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    settings.cache_clear()
    yield found
    httpd.shutdown()
    thread.join()
    httpd.server_close()
    settings.cache_clear()


def holds(encoder: ImageEncoder, whole: nn.Module) -> bool:
    published = whole.state_dict()
    inside = encoder.get_submodule("network").state_dict()
    return all(torch.equal(tensor, published[name]) for name, tensor in inside.items())


def started(weights: str, params: NetworkModel = VIT) -> ImageEncoder:
    encoder = build_encoder(params, 5)
    initialise(encoder, weights)
    return encoder


def test_weights_are_fetched_once_and_their_commit_is_kept(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = started("pretrained")
    assert holds(encoder, served.networks[FIRST])
    origin = encoder.origin
    content = save(served.networks[FIRST].state_dict())
    assert origin.name == REPOSITORY
    assert (origin.source, origin.revision, origin.licence, origin.labels) == ("hub", FIRST, "apache-2.0", "yes")
    assert origin.sha256 == hashlib.sha256(content).hexdigest()
    asked = len(served.asked)
    served.branch = SECOND
    for offline in ("false", "true"):  # what is there needs no connection, and stays what it is
        monkeypatch.setenv("DISCERN_OFFLINE", offline)
        settings.cache_clear()
        assert holds(started("pretrained"), served.networks[FIRST])
    assert len(served.asked) == asked


def test_a_revision_pins_the_weights(served: Hub) -> None:
    served.branch = SECOND
    encoder = started(f"pretrained@{FIRST}")
    assert holds(encoder, served.networks[FIRST])
    assert encoder.origin.revision == FIRST
    assert started("pretrained").origin.revision == SECOND
    tagged = started("pretrained", Timm(kind="timm", name="test_vit.r160_in1k"))
    assert tagged.origin.name == REPOSITORY


@pytest.mark.parametrize("name", ["test_vit", "test_vit.r160_in1k"])
def test_offline_names_url_and_file(name: str, served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCERN_OFFLINE", "true")
    settings.cache_clear()
    with pytest.raises(DownloadError, match="DISCERN_OFFLINE is set") as caught:
        started("pretrained", Timm(kind="timm", name=name))
    said = str(caught.value)
    assert f"{served.url}/{REPOSITORY}/resolve/main/model.safetensors" in said
    assert "at weights/test_vit.r160_in1k.safetensors, and set base.weights to that path" in said
    assert "\n" not in said
    assert not served.asked


def test_a_revision_that_is_not_there_is_told(served: Hub) -> None:
    with pytest.raises(DownloadError, match=rf"resolve/{'c' * 40}/model.safetensors: .*404.*; download") as caught:
        started(f"pretrained@{'c' * 40}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("answers", ["refuses", "is silent"])
def test_a_missing_hub_takes_seconds(answers: str, served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if answers == "is silent":
            silent.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        before = time.monotonic()
        with pytest.raises(DownloadError, match=r"refused|timed out") as caught:
            started("pretrained")
        assert time.monotonic() - before < 20
    assert "at weights/test_vit.r160_in1k.safetensors, and set base.weights to that path" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused(served: Hub) -> None:
    served.damage = True
    with pytest.raises(DownloadError, match=r"its sha256 is [0-9a-f]{64}, not its name; delete it") as caught:
        started("pretrained")
    blob = Path(str(caught.value).partition(": ")[0])
    assert blob.is_file()
    served.damage = False
    blob.unlink()
    assert holds(started("pretrained"), served.networks[FIRST])


def test_what_timm_does_not_publish_is_told() -> None:
    with pytest.raises(ParamsError, match=r"needs a base\.encoder of kind timm, not resnet18.*imagenet1k_v1"):
        started("pretrained", ENCODER)
    for name, hint in (
        ("darknet17", "on the hub$"),
        ("gcvit_xxtiny", r"on the hub; download https://.*pth"),
    ):
        with pytest.raises(ParamsError, match=f"timm has no weights of {name} {hint}"):
            started("pretrained", Timm(kind="timm", name=name))
