"""What is odd in data is one line on stderr, each time, and does not end the command."""

from __future__ import annotations

import warnings

import pytest

from restill.cli import app as cli
from restill.core.errors import DataWarning, warn_of


def test_every_warning_about_data_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Command:
        def main(self, **_: object) -> int:
            for _ in range(2):
                warn_of("a.npy: is\nodd [bold]; leave it out")
            with pytest.warns(match="another"):
                warnings.warn("another", RuntimeWarning, stacklevel=1)
            return 0

    monkeypatch.setattr(cli.typer.main, "get_command", lambda app: Command())
    before = warnings.showwarning
    assert cli._run_app(["info"]) == 0 and warnings.showwarning is before
    captured = capsys.readouterr()
    assert captured.err == 2 * "warning: a.npy: is odd [bold]; leave it out\n" and captured.out == ""


def test_a_script_can_refuse_what_is_odd() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        with pytest.raises(DataWarning, match="odd"):
            warn_of("a.npy: is odd; leave it out")
