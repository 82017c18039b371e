"""Features of a folder as a file: streamed, and gone on with after a kill without a row lost or doubled."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import discern
from discern.embedding import files, progress
from discern.embedding.files import Written, write_features
from discern.embedding.photos import PhotoEncoder
from discern.embedding.reading import names_in
from discern.errors import DataError, StorageError
from tests.photos import write

# A process that has imported torch and computed nothing yet, to be forked for every life: an import takes longer.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.unit.test_embedding_files"])
FOLDER, OUT = Path("photos"), Path("out/x.parquet")
PARTS = Path("out/x.parquet.parts")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def photos(encoder: PhotoEncoder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nine photographs, one of which is broken; read two at a time, a part for each two."""
    parts = encoder.parts
    monkeypatch.setattr(encoder, "parts", lambda photos: parts(photos, chunk=2))
    monkeypatch.setattr(files, "PART_S", 0.0)
    for seed in range(8):
        write(FOLDER / f"{seed}.png", seed)
    (FOLDER / "3b.jpg").write_bytes(b"\xff\xd8 nothing")
    return names_in(FOLDER)


def embed(encoder: PhotoEncoder, told: list[str], out: Path = OUT) -> Written:
    return write_features(encoder, names_in(FOLDER), FOLDER, out, told.append)


def test_both_formats_hold_the_same(encoder: PhotoEncoder, photos: list[str], told: list[str]) -> None:
    whole = encoder.embed(FOLDER)
    for suffix in ("parquet", "npz"):
        written = embed(encoder, told, Path("out", f"x.{suffix}"))
        assert (written.count, written.dim) == (8, encoder.dim)
        assert list(written.skipped) == ["photos/3b.jpg"]
    table = pd.read_parquet(OUT)
    assert table.columns.tolist() == ["path", "features"]
    assert table["path"].tolist() == [f"{seed}.png" for seed in range(8)]
    np.testing.assert_allclose(np.stack(table["features"].tolist()), whole.features, rtol=1e-4, atol=1e-5)
    with np.load("out/x.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["features"], np.stack(table["features"].tolist()))
        assert arrays["paths"].tolist() == table["path"].tolist()
    assert sorted(path.name for path in Path("out").iterdir()) == ["x.npz", "x.parquet"]
    assert pq.ParquetFile(OUT).num_row_groups == 5
    assert told == []


def test_where_nothing_can_be_read_nothing_is_left(encoder: PhotoEncoder, told: list[str]) -> None:
    write(FOLDER / "0.png", 0)
    (FOLDER / "0.png").write_bytes(b"")
    for suffix in ("parquet", "npz"):
        with pytest.raises(DataError, match=r"photos/0\.png: the file is empty"):
            embed(encoder, told, Path("none", f"x.{suffix}"))
    assert not Path("none").exists() or list(Path("none").iterdir()) == []


class StoppedError(Exception):
    pass


def stop_after(encoder: PhotoEncoder, monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException) -> None:
    """Let embedding end with an error after so many steps."""
    parts = encoder.parts

    def cut(photos: object) -> object:
        for number, one in enumerate(parts(photos)):  # type: ignore[arg-type]  # passed on as it came
            if number == count:
                raise error
            yield one

    monkeypatch.setattr(encoder, "parts", cut)


def test_an_interrupted_run_goes_on_with_the_same_result(
    encoder: PhotoEncoder, photos: list[str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(encoder, told)
    straight = pd.read_parquet(OUT)
    with monkeypatch.context() as patch:
        stop_after(encoder, patch, 3, StoppedError())
        with pytest.raises(StoppedError):
            embed(encoder, told)
    assert len(list(PARTS.glob("*.parquet"))) == 3
    pd.testing.assert_frame_equal(pd.read_parquet(OUT), straight)  # until then the file before stays
    (PARTS / ".000000000006-000000000008.parquet.partial").write_bytes(b"half")
    written = embed(encoder, told)
    assert told == ["out/x.parquet.parts: goes on after 6 of 9 photographs"]
    assert (written.count, list(written.skipped)) == (8, ["photos/3b.jpg"]), "skipped before the interruption"
    pd.testing.assert_frame_equal(pd.read_parquet(OUT), straight)
    assert not PARTS.exists()


def test_ctrl_c_keeps_all_that_is_done(
    encoder: PhotoEncoder, photos: list[str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PART_S", 1e9)
    with monkeypatch.context() as patch:
        stop_after(encoder, patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, told)
    assert [path.name for path in PARTS.glob("*.parquet")] == ["000000000000-000000000004.parquet"]
    assert embed(encoder, told).count == 8


@pytest.mark.parametrize(
    ("what", "reason"), [("encoder", "encoder changed"), ("photo", "photographs changed"), ("key", "encoder and ")]
)
def test_what_changed_begins_anew_and_says_so(
    encoder: PhotoEncoder,
    photos: list[str],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    reason: str,
) -> None:
    with monkeypatch.context() as patch:
        stop_after(encoder, patch, 3, StoppedError())
        with pytest.raises(StoppedError):
            embed(encoder, told)
    if what == "encoder":
        monkeypatch.setattr(PhotoEncoder, "digest", "another")
    elif what == "photo":
        write(FOLDER / "0.png", 77)
        os.utime(FOLDER / "0.png", ns=(1, 1))
    else:
        (PARTS / "key.json").write_text("{")
    assert embed(encoder, told).count == 8
    assert len(told) == 1
    assert reason in told[0]
    assert told[0].endswith("begun anew")
    table = pd.read_parquet(OUT)
    assert table["path"].tolist() == [f"{seed}.png" for seed in range(8)]
    if what == "photo":
        np.testing.assert_allclose(
            table["features"][0], encoder.embed(FOLDER / "0.png").features[0], rtol=1e-4, atol=1e-5
        )


def test_a_damaged_or_missing_part_and_what_follows_it_are_done_again(
    encoder: PhotoEncoder, photos: list[str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for harm in ("cut", "gone"):
        with monkeypatch.context() as patch:
            stop_after(encoder, patch, 4, StoppedError())
            with pytest.raises(StoppedError):
                embed(encoder, told)
        part = PARTS / "000000000002-000000000004.parquet"
        if harm == "cut":
            part.write_bytes(part.read_bytes()[:100])
        else:
            part.unlink()
        assert embed(encoder, told).count == 8
        assert told.pop() == "out/x.parquet.parts: goes on after 2 of 9 photographs"
        assert pd.read_parquet(OUT)["path"].tolist() == [f"{seed}.png" for seed in range(8)]


def test_a_second_process_is_refused(encoder: PhotoEncoder, photos: list[str], told: list[str]) -> None:
    with files._alone(PARTS), pytest.raises(DataError, match="another process is writing there"):
        embed(encoder, told)


def test_an_unwritable_place_is_named(encoder: PhotoEncoder, photos: list[str], told: list[str]) -> None:
    Path("out").write_text("a file where a folder should be")
    for suffix in ("parquet", "npz"):
        with pytest.raises(StorageError, match=r"^out/x\.\w+ cannot be written: .*the same command again$"):
            embed(encoder, told, Path("out", f"x.{suffix}"))


def test_progress_is_a_line_now_and_then(
    encoder: PhotoEncoder,
    photos: list[str],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    embed(encoder, told)
    assert capsys.readouterr().err == "", "nothing within the first half minute"
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    embed(encoder, told)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("progress 0.222 2 of 9 photographs, ")
    assert lines[-1].startswith("progress 1.000 9 of 9 photographs, ")
    assert lines[-1].endswith(" images/s, 1 skipped")


def embed_all(encoder: Path, out: Path) -> None:
    """What every life of the process below does: a part after every 64 photographs."""
    files.PART_S = 0.0
    write_features(discern.load(encoder), names_in(FOLDER), FOLDER, out, lambda line: None)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_an_undisturbed_run(encoder: PhotoEncoder, tmp_path: Path) -> None:
    for seed in range(400):
        write(FOLDER / f"{seed % 7}" / f"{seed:03}.png", seed)
    (FOLDER / "0" / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    reached: list[int] = []
    for _ in range(3):
        process = SERVER.Process(target=embed_all, args=(tmp_path / "encoder", OUT))
        process.start()
        deadline, before = time.monotonic() + 100, reached[-1] if reached else 0
        while time.monotonic() < deadline and process.is_alive() and parts() <= before:
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        reached.append(parts())
        assert not OUT.exists()
    assert reached == sorted(set(reached)), "every life went on from the one before"
    told: list[str] = []
    written = embed(encoder, told)
    assert "goes on after " in told[0]
    assert list(written.skipped) == ["photos/0/broken.jpg"]
    resumed = pd.read_parquet(OUT)
    assert len(resumed) == resumed["path"].nunique() == 400
    embed(encoder, told, Path("out/straight.parquet"))
    pd.testing.assert_frame_equal(resumed, pd.read_parquet("out/straight.parquet"))
    assert not PARTS.exists()


def parts() -> int:
    return len(list(PARTS.glob("*.parquet")))
