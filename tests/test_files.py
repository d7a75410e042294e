import pytest

from mmeffvit.files import whole_file


def test_takes_the_place_of_the_file_and_makes_folders(tmp_path):
    path = tmp_path / "new" / "table.csv"
    for text in ("old", "new"):
        with whole_file(path) as scratch:
            assert scratch.suffix == ".csv"
            scratch.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail():
        with whole_file(path) as scratch:
            scratch.write_text("half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
