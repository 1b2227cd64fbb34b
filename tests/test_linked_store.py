"""A run on a store elsewhere finds it again where the run was moved, or where links are forbidden."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import restill.cli.app as cli
from restill.core.errors import UserError
from restill.runs import open_run, prepare_store, recipe_on_store, working_on
from restill.runs.linked_store import link_store, linked_store
from tiny import SETTINGS, tiny_store


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "no links":

        def forbidden(*_: object, **__: object) -> Any:
            raise OSError(errno.EPERM, "A required privilege is not held by the client")

        monkeypatch.setattr(os, "symlink", forbidden)
        monkeypatch.setattr(Path, "symlink_to", forbidden)
    return request.param == "links"


def made(folder: Path) -> Path:
    """A run on a store beside it, in a folder of its own."""
    tiny_store(folder / "here" / "my store é")
    recipe = recipe_on_store("tiny-noise", folder / "here" / "my store é", SETTINGS)
    with working_on(folder / "here" / "run", recipe) as current:
        prepare_store(current)
    return folder / "here" / "run"


def test_a_run_leads_to_its_store(links: bool, tmp_path: Path) -> None:
    run = made(tmp_path)
    assert (run / "store").is_symlink() == links
    assert open_run(run).store.resolve() == (tmp_path / "here" / "my store é").resolve()
    with working_on(run, open_run(run).recipe) as current:
        assert len(prepare_store(current)) == 48
    assert cli._run_app(["info", str(run)]) == 0


def test_a_run_that_was_moved(links: bool, tmp_path: Path) -> None:
    """Its store stayed: the recipe knows where. The next command that works on the run links it again."""
    moved = tmp_path / "far" / "away" / "run"
    shutil.move(made(tmp_path), moved)
    assert len(prepare_store(open_run(moved))) == 48
    assert (moved / "store").resolve() == (tmp_path / "here" / "my store é").resolve() or not links


def test_a_run_that_was_moved_with_its_store(links: bool, tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    assert len(prepare_store(open_run(tmp_path / "there" / "run"))) == 48


def test_a_store_that_was_moved(links: bool, tmp_path: Path) -> None:
    """The error says how to name its new place, and that works."""
    run = made(tmp_path)
    shutil.move(tmp_path / "here" / "my store é", tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no store is there; move it back, or name .* --set data\.source=PATH"):
        prepare_store(open_run(run))
    with working_on(run, open_run(run, [f"data.source={tmp_path / 'elsewhere'}"]).recipe) as current:
        assert len(prepare_store(current)) == 48
    assert open_run(run).store.resolve() == (tmp_path / "elsewhere").resolve()


def test_a_link_replaces_what_led_elsewhere_and_nothing_else(links: bool, tmp_path: Path) -> None:
    place = tmp_path / "store"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        link_store(place, tmp_path / name)
        assert linked_store(place, None).resolve() == (tmp_path / name).resolve()
    place.unlink()
    place.mkdir()
    (place / "precious").write_text("mine")
    with pytest.raises(UserError, match="store: cannot be written"):
        link_store(place, tmp_path / "a")
    assert [file.name for file in place.iterdir()] == ["precious"]


def test_a_file_that_is_no_note_leads_nowhere(tmp_path: Path) -> None:
    for text in (b"", b"store: /nowhere", b"\xff", b"elsewhere"):
        (tmp_path / "store").write_bytes(text)
        assert linked_store(tmp_path / "store", None) == tmp_path / "store"
