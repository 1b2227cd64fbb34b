"""What belongs together finds each other by name, in folders, zips and tars, in whatever order these were packed."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restill.core.errors import UserError
from restill.io import ImageSource, check_pairs, open_images
from restill.io.names import natural
from restill.store import open_store

N = 12
SIZE = (8, 8)
RNG = np.random.default_rng(0)
LEVELS = 2.0 + np.arange(N)
Files = Mapping[str, np.ndarray]  # type: ignore[type-arg]


def image(i: int) -> np.ndarray:  # type: ignore[type-arg]
    """An image that says its number: its mean, which noise does not reach."""
    return (20 * i + RNG.integers(0, 10, SIZE)).astype(np.uint8)


def images(form: str = "frame{}.png", n: int = N) -> Files:
    return {form.format(i): image(i) for i in range(n)}


def png(pixels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def packed(path: Path, files: Files, order: Sequence[str] | None = None) -> Path:
    """A folder, or by its suffix an archive in that order."""
    order = order or list(files)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in order:
                archive.writestr(name, png(files[name]))
    elif ".tar" in path.name:
        kind = path.suffix.removeprefix(".").replace("tar", "")
        with tarfile.open(path, f"w:{kind}") as tar:
            for name in order:
                info = tarfile.TarInfo(name)
                info.size = len(png(files[name]))
                tar.addfile(info, io.BytesIO(png(files[name])))
    else:
        for name in order:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(png(files[name]))
    return path


def numbers(source: ImageSource) -> list[int]:
    return [int(pixels.mean() // 20) for pixels in source]


def shuffled(names: Sequence[str]) -> list[str]:
    return [str(name) for name in np.random.default_rng(1).permutation(list(names))]


def test_natural_order_is_that_of_numbers_and_else_that_of_letters() -> None:
    counted = [f"a{i}b{j}" for i in range(12) for j in range(12)]
    assert sorted(shuffled(counted), key=natural) == counted
    padded = [f"img-{i:03}_{j:02}.x" for i in (0, 7, 10, 200) for j in (0, 9, 10)]
    assert sorted(shuffled(padded), key=natural) == padded == sorted(padded)
    others = ["", "0", "10", "A", "Z_1", "a", "a-1", "a.1", "a/b", "a1", "aB", "a_1", "ab", "é", "٣"]
    assert sorted(shuffled(others), key=natural) == sorted(others)
    many = ["9" * 5000, "1" + "0" * 5000]  # more digits than Python reads as a number
    assert sorted(many, key=natural) == many


@pytest.mark.parametrize("place", ["folder", "x.zip", "x.tar", "x.tar.gz", "x.tar.xz"])
def test_images_come_in_natural_order_however_they_were_packed(tmp_path: Path, place: str) -> None:
    files = images()
    source = open_images(packed(tmp_path / place, files, shuffled(list(files))))
    assert numbers(source) == list(range(N)) == numbers(source)
    assert [name for name, _ in source.files or ()] == list(files)
    for (where, pixels), name in zip(source.passes(), files, strict=True):
        assert where.endswith(name) and np.array_equal(pixels[0], files[name])


def test_a_name_that_comes_twice_in_an_archive_is_refused(tmp_path: Path) -> None:
    for place in ("x.zip", "x.tar"):
        with pytest.warns(UserWarning) if place == "x.zip" else pytest.MonkeyPatch.context():
            path = packed(tmp_path / place, images(n=3), ["frame0.png", "frame1.png", "frame0.png"])
        with pytest.raises(UserError, match=r"holds frame0\.png twice"):
            open_images(path)


def masks_for(n: int, form: str) -> tuple[Files, np.ndarray]:  # type: ignore[type-arg]
    found = RNG.random((n, *SIZE)) > 0.3
    return {form.format(i): (255 * mask).astype(np.uint8) for i, mask in enumerate(found)}, found


@pytest.mark.parametrize("form", ["frame{}.png", "frame{:04}.png", "mask_{:02}.png", "m/{}_mask.png", "{}.png"])
@pytest.mark.parametrize("place", ["folder", "x.zip", "x.tar", "x.tar.xz"])
def test_masks_belong_to_the_images_of_their_names(
    call: Callable[..., str], tmp_path: Path, form: str, place: str
) -> None:
    masks, found = masks_for(N, form)
    scans = packed(tmp_path / "scans.zip", images())
    call("import", scans, "--sigma-n", 1, "--masks", packed(tmp_path / place, masks, shuffled(list(masks))),
         "--out", tmp_path / "y")  # fmt: skip
    store = open_store(tmp_path / "y")
    batch = next(store.iterate())
    shown = batch.operator.parameters()["mask"].bool().numpy()
    who = [round((float(store.to_physical(y[0])[m[0]].mean()) - 4.5) / 20) for y, m in zip(batch.y, shown, strict=True)]
    assert who == list(range(N)) and np.array_equal(shown[:, 0], found)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ([f"frame{i}" for i in range(1, N + 1)], ["frame0 has none", "frame12 belongs to no image"]),
        ([f"frame{i}" for i in range(N - 1)] + ["extra"], ["frame11 has none", "extra belongs to no image"]),
        (["cat", *(f"frame{i}" for i in range(1, N))], ["frame0 has none", "cat belongs to no image"]),
        ([f"a{i}" for i in range(2, 2 * N, 2)] + ["a0"], ["has none", "(nor 5 more)", "belongs to no image"]),
    ],
)
def test_names_that_do_not_pair_are_named(theirs: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check_pairs([f"frame{i}" for i in range(N)], sorted(theirs, key=natural), "masks.zip", "masks")
    text = str(caught.value)
    assert all(word in text for word in [*words, "masks.zip: ", "--pairing position"]) and len(text) < 300


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["img_1", "img_2", "img_10"], ["seg-001", "seg-002", "seg-010"]),
        (["a/1", "a/2", "b/1"], ["masks/a/1_m", "masks/a/2_m", "masks/b/1_m"]),
        (["left", "right"], ["left_mask", "right_mask"]),
        (["x"], ["y"]),
    ],
)
def test_what_all_names_share_does_not_count(ours: list[str], theirs: list[str]) -> None:
    check_pairs(ours, theirs, "m", "masks")
    if len(ours) > 1:
        with pytest.raises(UserError):
            check_pairs(ours, [*theirs[:-1], theirs[-1].replace("1", "7").replace("right", "up")], "m", "masks")


def sigma(store: Path) -> np.ndarray:  # type: ignore[type-arg]
    opened = open_store(store)
    return opened.sigma_n.numpy() * opened.manifest.normalisation.scale


LEVEL_FILES = {
    "names": ("l.txt", "{name} {level}", ""),
    "stems": ("l.txt", "{stem} {level}", ""),
    "table": ("l.csv", "{name},{level}", "file,sigma_n"),
    "tabs": ("l.tsv", "{name}\t{level}", "file\tsigma_n"),
    "numbers": ("l.txt", "{i} {level}", "# image level"),
    "folders": ("l.txt", "./scans/{name} {level}", ""),
}


@pytest.mark.parametrize("form", LEVEL_FILES)
def test_levels_with_names_belong_to_the_images_of_their_names(
    call: Callable[..., str], tmp_path: Path, form: str
) -> None:
    name, line, heading = LEVEL_FILES[form]
    images_form = "{}.png" if form == "numbers" else "my frame{}.png" if form in ("stems", "tabs") else "frame{}.png"
    files = images(images_form)
    packed(tmp_path / "scans.tar.gz", files, shuffled(list(files)))
    lines = [
        line.format(name=file, stem=file.removesuffix(".png"), i=i, level=LEVELS[i]) for i, file in enumerate(files)
    ]
    (tmp_path / name).write_text("\n".join([*([heading] if heading else []), *shuffled(lines)]))
    call("import", tmp_path / "scans.tar.gz", "--sigma-n", tmp_path / name, "--out", tmp_path / "y")
    np.testing.assert_allclose(sigma(tmp_path / "y"), LEVELS, rtol=1e-6)


def test_levels_without_names_need_images_of_a_clear_order(
    call: Callable[..., str], fails: Callable[..., str], tmp_path: Path
) -> None:
    unclear, clear = packed(tmp_path / "a", images()), packed(tmp_path / "b", images("frame{:02}.png"))
    np.save(tmp_path / "l.npy", LEVELS)
    (tmp_path / "l.txt").write_text("\n".join(map(str, LEVELS)))
    for levels in (tmp_path / "l.npy", tmp_path / "l.txt"):
        text = fails("import", unclear, "--sigma-n", levels, "--out", tmp_path / "y")
        assert "frame10.png comes before frame2.png" in text and "--pairing position" in text and len(text) < 300 + 160
    for k, words in enumerate(([clear], [unclear, "--pairing", "position"])):
        call("import", *words, "--sigma-n", tmp_path / "l.npy", "--out", tmp_path / f"y{k}")
        np.testing.assert_allclose(sigma(tmp_path / f"y{k}"), LEVELS, rtol=1e-6)


def test_an_array_of_masks_needs_images_of_a_clear_order(
    call: Callable[..., str], fails: Callable[..., str], tmp_path: Path
) -> None:
    masks, found = masks_for(N, "{}.png")
    np.save(tmp_path / "m.npy", found)
    scans = packed(tmp_path / "scans", images())
    words = ["import", scans, "--sigma-n", 1, "--masks", tmp_path / "m.npy", "--out"]
    assert "m.npy: has masks without names" in fails(*words, tmp_path / "y")
    call(*words, tmp_path / "y", "--pairing", "position")
    one = packed(tmp_path / "one.zip", dict(list(masks.items())[:1]))  # one for all needs no name
    call("import", scans, "--sigma-n", 1, "--masks", one, "--out", tmp_path / "z")


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["frame0.png 2", "frame0.png 3"], "names frame0.png twice"),
        (["frame0.png 2", "frame1.png much"], "'frame1.png much' is not 'name level'"),
        (["frame0.png 2"], "frame1 has none"),
        (["frame0.png 2", "frame1.png -2"], "at least 0"),
        (["frame0.png,2,3", "frame1.png,2,3"], "is not 'name level'"),
    ],
)
def test_levels_that_cannot_be_are_refused(
    fails: Callable[..., str], tmp_path: Path, lines: list[str], word: str
) -> None:
    packed(tmp_path / "scans", images(n=2))
    (tmp_path / "l.txt").write_text("\n".join(lines))
    text = fails("import", tmp_path / "scans", "--sigma-n", tmp_path / "l.txt", "--out", tmp_path / "y")
    assert word in text and "l.txt" in text
    np.save(tmp_path / "a.npy", RNG.random((2, *SIZE)))
    text = fails("import", tmp_path / "a.npy", "--sigma-n", tmp_path / "l.txt", "--out", tmp_path / "y")
    assert "l.txt" in text
