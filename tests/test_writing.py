"""Files are whole or not there: failures tell the first reason and leave the old file."""

import errno
import os
import threading
from pathlib import Path

import pytest

from pointsense.errors import DataError, UsageError
from pointsense.writing import claim_folder, replacing, write_json, write_text


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_makes_folders_and_leaves_nothing_else(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"y": 1})
    assert (tmp_path / "a" / "b.json").read_text() == '{\n  "y": 1\n}\n'
    assert files_of(tmp_path / "a") == ["b.json"]


def test_temporary_file_is_beside_with_the_same_suffix(tmp_path):
    with replacing(tmp_path / "a.png") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")
        temporary.write_text("x")
        assert not (tmp_path / "a.png").exists()
    assert files_of(tmp_path) == ["a.png"]


@pytest.mark.parametrize("failure", [ValueError("a bug"), KeyboardInterrupt()])
def test_failure_in_the_block_keeps_the_old_file(tmp_path, failure):
    write_text(tmp_path / "a.txt", "old")

    def write():
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert files_of(tmp_path) == ["a.txt"]


def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "old")

    def full(self, text, **kwargs):
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match=r"cannot write .*a\.txt: No space left on device"):
        write_text(tmp_path / "a.txt", "new and longer")
    monkeypatch.undo()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert files_of(tmp_path) == ["a.txt"]


def test_parent_that_is_a_file(tmp_path):
    write_text(tmp_path / "a", "a file")
    for path in (tmp_path / "a" / "b.txt", tmp_path / "a" / "b" / "c.txt"):
        with pytest.raises(DataError, match=f"cannot write {path}: (File exists|Not a directory)"):
            write_text(path, "x")
    assert (tmp_path / "a").read_text() == "a file"


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"cannot write .*a: "):
        write_text(tmp_path / "a", "x")
    assert files_of(tmp_path) == ["a"]


def test_threads_write_the_same_file_whole(tmp_path):
    texts = [str(number) * 20_000 for number in range(8)]
    start = threading.Barrier(len(texts))
    problems = []

    def write(text):
        start.wait()
        try:
            for _ in range(10):
                write_text(tmp_path / "a.txt", text)
        except DataError as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert (tmp_path / "a.txt").read_text() in texts
    assert files_of(tmp_path) == ["a.txt"]


def test_claim_folder(tmp_path):
    assert claim_folder(tmp_path / "new", overwrite=False) == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    assert claim_folder(tmp_path, overwrite=False) == tmp_path
    write_text(tmp_path / "a.txt", "x")
    with pytest.raises(UsageError, match=r"is not empty; give another --out, or --overwrite"):
        claim_folder(tmp_path, overwrite=False)
    assert claim_folder(tmp_path, overwrite=True) == tmp_path
    with pytest.raises(UsageError, match=r"a\.txt is a file, expected a folder"):
        claim_folder(tmp_path / "a.txt", overwrite=True)
