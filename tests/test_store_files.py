"""A store is complete or absent, and damage is named: writers that die, full disks, flipped bytes, other versions."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from restill.core.errors import UserError
from restill.core.reading import sha256
from restill.corruption import AdditiveNoise
from restill.store import Normalisation, Store, StoreWriter, open_store
from restill.store.manifest import Contents

CONTENTS = Contents(
    kind="measurements",
    shape=(1, 4, 5),
    image_shape=(1, 4, 5),
    normalisation=Normalisation(offset=0.0, scale=1.0),
    value_range=(-1.0, 1.0),
    classes=None,
    corruption=AdditiveNoise(sigma_n=0.1).describe(),
)
Y = torch.randn(23, 1, 4, 5, generator=torch.Generator().manual_seed(0))


def write(path: Path, shard_bytes: int = 500) -> Store:
    """23 samples in shards of six (4 * 21 bytes a sample) and a last one of five."""
    with StoreWriter(path, CONTENTS, source="test", seed=0, shard_bytes=shard_bytes) as writer:
        for i in range(23):
            writer.append(Y[i : i + 1], {"sigma_n": torch.tensor([i / 100])}, torch.tensor([i % 4]))
    return open_store(path)


def failure(path: Path, verify: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        open_store(path, verify=verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_any_order_across_shards(tmp_path: Path) -> None:
    store = write(tmp_path / "y")
    assert [shard.count for shard in store.manifest.shards] == [6, 6, 6, 5] and len(store) == 23
    for index in ([22, 0, 6, 5, 11, 12, 0, 17], [7, 8], [3], list(range(22, -1, -1))):
        batch = store.batch(torch.tensor(index))
        torch.testing.assert_close(batch.y, Y[index], rtol=0, atol=0)
        assert batch.labels is not None and batch.labels.tolist() == [i % 4 for i in index]
        torch.testing.assert_close(batch.operator.sigma_n, torch.tensor(index) / 100)
    assert len(store.batch(torch.empty(0, dtype=torch.int64)).y) == 0
    assert store.num_classes == 4
    for index in ([23], [-1]):
        with pytest.raises(IndexError):
            store.batch(torch.tensor(index))


def test_iterate_gives_everything_once(tmp_path: Path) -> None:
    batches = list(write(tmp_path / "y").iterate(10))
    assert [len(batch) for batch in batches] == [10, 10, 3]
    torch.testing.assert_close(torch.cat([batch.y for batch in batches]), Y, rtol=0, atol=0)
    moved = batches[0].to("meta")
    assert moved.operator.sigma_n.is_meta and moved.y.is_meta


def test_changing_a_batch_does_not_change_the_store(tmp_path: Path) -> None:
    store = write(tmp_path / "y")
    store.batch(torch.tensor([1, 2])).y.zero_()
    torch.testing.assert_close(store.batch(torch.tensor([1, 2])).y, Y[1:3], rtol=0, atol=0)
    open_store(tmp_path / "y", verify=True)


def test_the_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    sigma_n = {"sigma_n": torch.zeros(2)}
    bad: list[tuple[type[Exception], Any]] = [
        (ValueError, (torch.zeros(2, 1, 5, 4), sigma_n)),
        (ValueError, (torch.zeros(3, 1, 4, 5), sigma_n)),
        (ValueError, (torch.zeros(2, 1, 4, 5), sigma_n, torch.zeros(2))),
        (UserError, (torch.full((2, 1, 4, 5), torch.nan), sigma_n)),
    ]
    for error, arguments in bad:
        with pytest.raises(error), StoreWriter(tmp_path / "y", CONTENTS, source="test", seed=0) as writer:
            writer.append(torch.zeros(2, 1, 4, 5), sigma_n)
            writer.append(*arguments)
        assert not list(tmp_path.iterdir())
    with (
        pytest.raises(UserError, match="nothing was written"),
        StoreWriter(tmp_path / "y", CONTENTS, source="", seed=0),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), StoreWriter(tmp_path / "y", CONTENTS, source="", seed=0, shard_bytes=1) as writer:
        writer.append(Y, {"sigma_n": torch.zeros(23)})
        assert (tmp_path / "y.writing" / "shard-00000.safetensors").exists()
        raise error
    assert not list(tmp_path.iterdir())


def test_an_existing_path_is_refused_and_kept(tmp_path: Path) -> None:
    before = write(tmp_path / "y").fingerprint
    with pytest.raises(UserError, match="y: exists already"):
        write(tmp_path / "y")
    assert open_store(tmp_path / "y").fingerprint == before


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "y", CONTENTS, source="", seed=0) as writer:
        writer.append(Y, {"sigma_n": torch.zeros(23)})
        with pytest.raises(UserError, match=f"is being written by process {os.getpid()}"):
            write(tmp_path / "y")
        assert f"still being written by process {os.getpid()}" in failure(tmp_path / "y")
    assert len(open_store(tmp_path / "y")) == 23


KILLED = """
import sys, time, torch
from pathlib import Path
from test_store_files import CONTENTS, Y
from restill.store import StoreWriter
with StoreWriter(Path(sys.argv[1]), CONTENTS, source="", seed=0, shard_bytes=1) as writer:
    writer.append(Y, {"sigma_n": torch.zeros(23)})
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_killed_writer_leaves_nothing_at_the_path_and_the_next_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "y"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "writing\n"
        assert f"still being written by process {process.pid}" in failure(path)
        with pytest.raises(UserError, match=f"is being written by process {process.pid}"):
            write(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not path.exists() and (tmp_path / "y.writing").exists()
    assert "left unfinished; run the command" in failure(path)
    assert len(write(path)) == 23
    assert [entry.name for entry in tmp_path.iterdir()] == ["y"]


@pytest.mark.parametrize("note", [None, "", "{", "[]", '{"pid": 1e999}', "own"])
def test_left_overs_with_any_note_are_replaced(tmp_path: Path, note: str | None) -> None:
    """A process id that lives again, as in a restarted container, holds nothing: the lock ended with its process."""
    (tmp_path / "y.writing").mkdir()
    if note is not None:
        (tmp_path / ".y.lock").write_text(json.dumps({"pid": os.getpid()}) if note == "own" else note)
    assert "left unfinished" in failure(tmp_path / "y")
    assert len(write(tmp_path / "y")) == 23
    assert [entry.name for entry in tmp_path.iterdir()] == ["y"]


@pytest.mark.parametrize("written", [0, 2, 4])
def test_a_full_disk_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The disk is full after so many files; the first four are shards, the last is the manifest."""
    files: list[int] = []

    def fsync(handle: int) -> None:
        files.append(handle)
        if len(files) > written:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=r"y: cannot be written \(No space left on device\)"):
        write(tmp_path / "y")
    assert len(files) == written + 1 and not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX limits")
def test_a_write_that_the_system_cuts_short(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))
    try:
        with pytest.raises(UserError, match="y: cannot be written") as caught:
            write(tmp_path / "y")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in str(caught.value) and not list(tmp_path.iterdir())


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        change(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))

    return damage


def replace_shard(tensors: dict[str, torch.Tensor]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        file = path / "shard-00001.safetensors"
        safetensors.torch.save_file(tensors, file)
        edit(lambda m: m["shards"][1].update(sha256=sha256(file)))(path)

    return damage


def flip(path: Path) -> None:
    file = path / "shard-00001.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


SIGMA = torch.zeros(6)
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte": (flip, "shard-00001.safetensors: shard is damaged"),
    "missing shard": (lambda p: (p / "shard-00002.safetensors").unlink(), "shard-00002.safetensors: shard is missing"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "is not a store"),
    "no JSON": (lambda p: (p / "manifest.json").write_text("{"), "manifest.json: is not readable JSON"),
    "a list": (lambda p: (p / "manifest.json").write_text("[]"), "manifest.json"),
    "newer": (edit(lambda m: m.update(schema=2, surprise=1)), "has schema 2, but this restill reads up to 1"),
    "no schema": (edit(lambda m: m.pop("schema")), "manifest.json: schema"),
    "unknown key": (edit(lambda m: m.update(surprise=1)), "manifest.json: surprise"),
    "missing key": (edit(lambda m: m.pop("shape")), "manifest.json: shape"),
    "count": (edit(lambda m: m.update(count=24)), "do not add up"),
    "no scale": (edit(lambda m: m["normalisation"].update(scale=0)), "manifest.json: normalisation.scale"),
    "path": (edit(lambda m: m["shards"][0].update(file="../x.safetensors")), "manifest.json: shards.0.file"),
    "kind": (edit(lambda m: m.update(kind="reference")), "a reference has none"),
    "shape": (edit(lambda m: m.update(shape=[1, 5, 4])), "shard-00000.safetensors: y is torch.float32"),
    "no y": (replace_shard({"sigma_n": SIGMA}), "shard-00001.safetensors: y is missing"),
    "type": (replace_shard({"y": torch.zeros(6, 1, 4, 5).half(), "sigma_n": SIGMA}), "y is torch.float16"),
    "other tensors": (
        replace_shard({"y": torch.zeros(6, 1, 4, 5), "sigma_n": SIGMA}),
        "shard-00001.safetensors: tensors",
    ),
    "labels": (
        replace_shard({"y": torch.zeros(6, 1, 4, 5), "sigma_n": SIGMA, "labels": torch.zeros(5)}),
        "shard-00001.safetensors: labels does not hold 6",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    damage, words = DAMAGE[name]
    write(tmp_path / "y")
    damage(tmp_path / "y")
    assert words in failure(tmp_path / "y")


def test_a_truncated_shard_is_named_without_verification(tmp_path: Path) -> None:
    write(tmp_path / "y")
    file = tmp_path / "y" / "shard-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert "shard-00001.safetensors: shard is damaged" in failure(tmp_path / "y", verify=False)


def test_nothing_at_the_path(tmp_path: Path) -> None:
    assert "no such store" in failure(tmp_path / "y")
    (tmp_path / "file").write_text("x")
    assert "file: is not a store" in failure(tmp_path / "file")


def test_an_unknown_corruption_still_opens(tmp_path: Path) -> None:
    write(tmp_path / "y")
    edit(lambda m: m["corruption"].update(kind="of-another-package"))(tmp_path / "y")
    store = open_store(tmp_path / "y")
    with pytest.raises(UserError, match="of-another-package"):
        store.batch(torch.tensor([0]))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux' /proc to see the memory in use")
def test_samples_stay_on_disk_until_they_are_asked_for(tmp_path: Path) -> None:
    big = CONTENTS.model_copy(update={"shape": (1, 512, 512), "image_shape": (1, 512, 512)})
    with StoreWriter(tmp_path / "y", big, source="", seed=0) as writer:
        for _ in range(2):  # 64 MB in two shards
            writer.append(torch.ones(32, 1, 512, 512), {"sigma_n": torch.zeros(32)})
    before = resident_bytes()
    store = open_store(tmp_path / "y")
    assert store.batch(torch.tensor([3, 40])).y.mean() == 1
    assert resident_bytes() - before < 24e6
