"""Files that somebody else made: what is read of them, what is refused, and what it costs."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest
import yaml

from restill.core.errors import UserError
from restill.core.reading import check_plain, check_regular, opened, parse_json, read_json, read_text, sha256
from restill.core.terminal import one_line, visible
from restill.core.yaml_data import parse_yaml
from untrusted import digest

BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_a_regular_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("ä\r\nb\n".encode())
    (tmp_path / "link").symlink_to("text")
    with opened(tmp_path / "link") as file:
        assert file.read() == "ä\r\nb\n".encode()
    assert read_text(tmp_path / "text") == "ä\nb\n" and sha256(tmp_path / "link") == digest(tmp_path / "text")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        begun = time.monotonic()
        for name, words in {
            "pipe": "a pipe",
            "socket": "a socket",
            "/dev/zero": "a device",
            ".": "a folder",
        }.items():
            for read in (check_regular, opened, read_text, read_json, sha256):
                with pytest.raises(UserError, match=words):
                    read(Path(name))
        assert time.monotonic() - begun < 5
    with pytest.raises(UserError, match="missing: no such file"):
        opened(Path("missing"))


def test_text_is_limited_and_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    assert read_text(file, most=100) == "x" * 100
    with pytest.raises(UserError, match="larger than"):
        read_text(file, most=99)
    file.write_bytes(b"\xff")
    with pytest.raises(UserError, match="is not text in UTF-8"):
        read_text(file)


NUMBER = 2**63 - 1


@pytest.mark.parametrize("data", [None, {"a": [1, 2.5, True, "ü", {"b": -NUMBER}]}, NUMBER, [[]] * 1000])
def test_plain_data_come_back(data: object) -> None:
    assert parse_json(json.dumps(data)) == data and parse_yaml(yaml.safe_dump(data)) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested deeper than 50"),
        ("[" * 60 + "]" * 60, "nested deeper than 50"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested deeper than 50"),
        ("9" * 1_000_000, "1,000,000 digits"),
        (f"[{NUMBER + 1}]", "19 digits"),
        ("[" + "0," * 2_000_000 + "0]", "more than 1,000,000 values"),
        (r'"\ud800"', "not valid Unicode"),
        ("{", "Expecting"),
    ],
)
def test_json_that_is_no_plain_data(text: str, reason: str) -> None:
    begun = time.process_time()
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 50,000 values"),
        ("[" * 100_000, "nested deeper than 50"),
        ("- " * 100_000, "nested deeper than 50"),
        ("? " * 100_000, "nested deeper than 50"),
        ("a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(60)), "nested deeper than 50"),
        ("&a [*a]", "within the value"),
        ("[" + "1," * 100_000 + "1]", "more than 50,000 values"),
        ("a: " + "9" * 100_000, "100,000 digits"),
        ("a: " + ":".join(["59"] * 1000), "digits"),
        (f"a: {NUMBER + 1}", "19 digits"),
        ("a: 1\nb: 2\na: 3", "'a' stands twice"),
        ("1: 2", "key 1 must be a text"),
        ("!!int word", "invalid literal"),
        ("!!bool word", "word"),
        ("!!binary aGk=", "tag"),
        ("!!python/name:os.system x", "tag"),
        ("!!timestamp 2001-01-01", "tag"),
        ("[1", "expected"),
    ],
)
def test_yaml_that_is_no_plain_data(text: str, reason: str) -> None:
    begun = time.process_time()
    with pytest.raises(yaml.YAMLError, match=reason):
        parse_yaml(text)
    assert time.process_time() - begun < 2


def test_yaml_as_people_write_it() -> None:
    text = "a: &x {b: 1e-4}\nc: *x\nd: {<<: *x, e: 2001-01-01}\nf: [0x10, .inf, 1_000, on]"
    b = {"b": 1e-4}
    assert parse_yaml(text) == {"a": b, "c": b, "d": {**b, "e": "2001-01-01"}, "f": [16, float("inf"), 1000, True]}


def test_sets_and_dates_are_no_plain_data() -> None:
    for data in ([NUMBER + 1], {1: 2}, ["\ud800"]):
        with pytest.raises(ValueError):
            check_plain(data)


def test_what_is_printed_steers_no_terminal() -> None:
    assert visible("\x1b[31mred\x07 ü ‮") == r"\x1b[31mred\x07 ü \u202e" and visible("a\nb") == "a\nb"
    assert one_line("a\n  b\x1b\tc") == r"a b\x1b c"
    line = one_line("x" * 200 + "\n" + "y" * 200)
    assert len(line) == 300 and line.startswith("x" * 100) and " ... " in line and line.endswith("y" * 100)
    assert len(one_line("\x1b" * 10_000_000)) == 300
