"""The record: what was written comes back, and nothing else is taken for it."""

from pathlib import Path

import pytest

from cairn.shaping.language.search import Journal, JournalError


def test_a_second_run_is_given_what_the_first_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "search.jsonl"
    first = Journal(path)
    assert first.remember("answers", {"n": 1}, lambda: ["x"]) == ["x"]
    assert first.remember("answers", {"n": 2}, lambda: ["y", 0.1]) == ["y", 0.1]
    second = Journal(path)
    assert second.replaying
    assert second.remember("answers", {"n": 1}, lambda: 1 / 0) == ["x"]
    assert second.remember("answers", {"n": 2}, lambda: 1 / 0) == ["y", 0.1]
    assert not second.replaying
    second.remember("trials", None, lambda: {"score": 1})
    assert len(path.read_text().splitlines()) == 3


def test_another_search_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    Journal(path).remember("answers", "one prompt", lambda: [])
    with pytest.raises(JournalError, match="line 1.*other settings"):
        Journal(path).remember("answers", "another prompt", lambda: [])
    with pytest.raises(JournalError, match="'answers' here"):
        Journal(path).remember("trials", "one prompt", lambda: [])


def test_a_line_that_a_kill_cut_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    journal = Journal(path)
    journal.remember("answers", 1, lambda: ["é"])
    journal.remember("answers", 2, lambda: ["b"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    again = Journal(path)
    assert again.remember("answers", 1, lambda: None) == ["é"]
    assert again.remember("answers", 2, lambda: ["b"]) == ["b"]
    assert path.read_bytes() == whole


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    path.write_text('{"kind": "answers"}\n')
    with pytest.raises(JournalError, match="line 1"):
        Journal(path)
    path.write_text("[1]\n")
    with pytest.raises(JournalError):
        Journal(path)


def test_numbers_that_json_has_none_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Journal(tmp_path / "search.jsonl").remember("trials", 1, lambda: float("nan"))
    assert not (tmp_path / "search.jsonl").exists()
