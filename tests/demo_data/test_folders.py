"""A folder is whole or absent: crashes, races and foreign folders."""

import json
import multiprocessing
import time

import pytest

from mmeffvit.demo_data.folders import ForeignFolderError, ensure_folder, folder_hash

_CONFIG = {"seed": 1, "size": (3, 4)}


def _write(folder):
    (folder / "a").mkdir()
    (folder / "a" / "one").write_text("1")
    (folder / "a" / "two").write_text("22")


def _must_not_write(folder):
    pytest.fail("the folder was whole and must not be written again")


def test_writes_once(tmp_path):
    root = tmp_path / "deep" / "data"
    assert ensure_folder(root, _CONFIG, _write)
    assert not ensure_folder(root, _CONFIG, _must_not_write)
    assert (root / "a" / "two").read_text() == "22"
    assert [p.name for p in root.parent.iterdir() if "tmp" in p.name] == []


def test_another_config_replaces_the_contents(tmp_path):
    root = tmp_path / "data"
    ensure_folder(root, _CONFIG, _write)
    assert ensure_folder(root, {**_CONFIG, "seed": 2}, lambda folder: (folder / "b").mkdir())
    assert sorted(p.name for p in root.iterdir()) == ["b", "manifest.json"]
    assert json.loads((root / "manifest.json").read_text())["config"]["seed"] == 2


def test_damage_in_a_deep_folder_is_noticed(tmp_path):
    def write(folder):
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "one").write_text("1")

    root = tmp_path / "data"
    ensure_folder(root, _CONFIG, write)
    assert not ensure_folder(root, _CONFIG, _must_not_write)
    (root / "a" / "b" / "one").unlink()
    assert ensure_folder(root, _CONFIG, write)


@pytest.mark.parametrize("harm", ["lose a file", "cut a file", "lose a folder"])
def test_damage_is_noticed_and_repaired(tmp_path, harm):
    root = tmp_path / "data"
    ensure_folder(root, _CONFIG, _write)
    whole = folder_hash(root)
    if harm == "cut a file":
        (root / "a" / "two").write_text("2")
    else:
        (root / "a" / "two").unlink()
    if harm == "lose a folder":
        (root / "a" / "one").unlink()
        (root / "a").rmdir()
    assert ensure_folder(root, _CONFIG, _write)
    assert folder_hash(root) == whole


def test_a_foreign_folder_is_left_alone(tmp_path):
    root = tmp_path / "coco"
    root.mkdir()
    (root / "precious.jpg").write_text("mine")
    before = folder_hash(root)
    with pytest.raises(ForeignFolderError, match=r"coco already exists .* was not written by"):
        ensure_folder(root, _CONFIG, _write)
    assert folder_hash(root) == before


def test_a_foreign_manifest_does_not_make_a_folder_ours(tmp_path):
    root = tmp_path / "coco"
    root.mkdir()
    (root / "manifest.json").write_text('{"name": "somebody else\'s"}')
    with pytest.raises(ForeignFolderError):
        ensure_folder(root, _CONFIG, _write)


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "data").mkdir()
    assert ensure_folder(tmp_path / "data", _CONFIG, _write)


def test_a_failing_writer_leaves_nothing(tmp_path):
    def fail(folder):
        _write(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ensure_folder(tmp_path / "data", _CONFIG, fail)
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_a_failing_writer_leaves_the_old_contents(tmp_path):
    root = tmp_path / "data"
    ensure_folder(root, _CONFIG, _write)
    before = folder_hash(root)
    with pytest.raises(ZeroDivisionError):
        ensure_folder(root, {"seed": 5}, lambda folder: 1 / 0)
    assert folder_hash(root) == before


def _write_slowly(root, pause, said):
    def write(folder):
        (folder / "a").mkdir()
        for index in range(20):
            (folder / "a" / str(index)).write_text(str(index))
            time.sleep(pause)

    said.put("wrote" if ensure_folder(root, {"seed": 1}, write) else "found")


@pytest.fixture(scope="module")
def start():
    """Starts processes that write slowly; each puts what it did into a queue."""
    context = multiprocessing.get_context("fork")

    def start(root, pause):
        said = context.SimpleQueue()
        process = context.Process(target=_write_slowly, args=(root, pause, said))
        process.start()
        return process, said

    return start


def test_killed_in_the_middle_then_written_by_the_next(tmp_path, start):
    root = tmp_path / "data"
    process, _ = start(root, pause=60)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".data.tmp-*/a/0")):
        assert time.monotonic() < deadline, "the writer did not start"
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not root.exists()

    process, said = start(root, pause=0)
    assert said.get() == "wrote"
    process.join()
    assert len(list((root / "a").iterdir())) == 20
    assert not list(tmp_path.glob(".data.tmp-*"))


def test_started_together_one_writes_and_all_find_it_whole(tmp_path, start):
    root = tmp_path / "data"
    started = [start(root, pause=0.02) for _ in range(3)]
    assert sorted(said.get() for _, said in started) == ["found", "found", "wrote"]
    for process, _ in started:
        process.join()
        assert process.exitcode == 0
    assert len(list((root / "a").iterdir())) == 20


def test_who_waits_says_so(tmp_path, start):
    root = tmp_path / "data"
    process, said = start(root, pause=0.1)
    while not list(tmp_path.glob(".data.tmp-*")):
        time.sleep(0.02)
    messages = []
    assert not ensure_folder(root, {"seed": 1}, _must_not_write, messages.append)
    assert messages == [f"waiting for another process to write {root} ..."]
    assert said.get() == "wrote"
    process.join()
