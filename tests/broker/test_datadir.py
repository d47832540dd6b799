"""The data directory: what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mq.broker.datadir import DataDir, filesystem_warning
from mq.broker.model import ChannelConfig, ChannelMeta, Durability
from mq.errors import DataDirError
from mq.log.files import OS_FILES


def meta(name: str = "orders") -> ChannelMeta:
    """A channel's record with every field set."""
    config = ChannelConfig(1 << 20, Durability.WRITTEN, 1000)
    return ChannelMeta(name, b"\x01" * 16, 1_700_000_000_000_000_000, config)


def content(path: Path) -> dict[str, bytes]:
    """Every file below ``path`` by its relative name."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_channel_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    """Created, the directory opened again, and every field is there."""
    first = DataDir(tmp_path / "d", OS_FILES)
    first.create(meta())
    del first
    metas, notices = DataDir(tmp_path / "d", OS_FILES).load()
    assert (metas, notices) == ([meta()], [])


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    """Directories 0700, files 0600."""
    data = DataDir(tmp_path / "d", OS_FILES)
    data.create(meta())
    for path in (tmp_path / "d").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """A second process is told who holds it, by a lock that dies with its holder."""
    held = DataDir(tmp_path, OS_FILES)
    with pytest.raises(DataDirError, match="in use by another"):
        DataDir(tmp_path, OS_FILES)
    del held
    DataDir(tmp_path, OS_FILES)


def test_a_directory_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    """Files, and no format.json: not ours."""
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(DataDirError, match="not an mq data directory"):
        DataDir(tmp_path, OS_FILES)
    assert content(tmp_path) == {"photo.jpg": b"x"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [('{"format": 2}', "format 2"), ("{", "damaged"), ('{"id": 1}', "damaged")],
)
def test_a_newer_or_damaged_format_is_refused_untouched(
    tmp_path: Path, text: str, reason: str
) -> None:
    """The message says what was found, and the file stays as it is."""
    (tmp_path / "format.json").write_text(text)
    with pytest.raises(DataDirError, match=reason):
        DataDir(tmp_path, OS_FILES)
    assert (tmp_path / "format.json").read_text() == text
    assert not (tmp_path / "channels").exists()


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    """The message names it."""
    (tmp_path / "f").write_text("")
    with pytest.raises(DataDirError, match="not a directory"):
        DataDir(tmp_path / "f", OS_FILES)


def test_what_a_crash_left_half_made_is_removed(tmp_path: Path) -> None:
    """A channel being created or deleted when the power went is gone after."""
    data = DataDir(tmp_path, OS_FILES)
    for name in (".new-aa", ".deleted-bb"):
        (data.channels_path / name).mkdir()
        (data.channels_path / name / "channel.json").write_text("{}")
    journal = data.groups_path / "bb"
    journal.mkdir(parents=True)
    (journal / "checkpoint").write_text("")
    assert data.load() == ([], [])
    assert list(data.channels_path.iterdir()) == []
    assert list(data.groups_path.iterdir()) == []


def test_a_journal_whose_channel_is_missing_is_left_alone(tmp_path: Path) -> None:
    """The channel may come back; somebody is told."""
    data = DataDir(tmp_path, OS_FILES)
    journal = data.groups_path / "aa"
    journal.mkdir(parents=True)
    (journal / "checkpoint").write_text("kept")
    metas, (notice,) = data.load()
    assert metas == []
    assert str(journal) in notice
    assert (journal / "checkpoint").read_text() == "kept"


@pytest.mark.parametrize("text", ["", "{", '{"name": "x"}', '{"id": "00", "name": "x"}'])
def test_a_damaged_channel_record_leaves_the_others(tmp_path: Path, text: str) -> None:
    """It is reported and left alone; the other channel is there."""
    data = DataDir(tmp_path, OS_FILES)
    data.create(meta())
    broken = data.channels_path / ("ff" * 16)
    broken.mkdir()
    (broken / "channel.json").write_text(text)
    metas, notices = data.load()
    assert metas == [meta()]
    assert len(notices) == 1
    assert broken.name in notices[0]
    assert (broken / "channel.json").read_text() == text


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """A link in place of a channel's directory is reported and left alone."""
    data = DataDir(tmp_path / "d", OS_FILES)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (data.channels_path / ("aa" * 16)).symlink_to(elsewhere)
    metas, notices = data.load()
    assert metas == []
    assert "left alone" in notices[0]


def test_deleting_removes_every_file(tmp_path: Path) -> None:
    """Nothing of the channel is left, and its name is free."""
    data = DataDir(tmp_path, OS_FILES)
    data.create(meta())
    (data.channel_path(meta().id) / "00000000000000000000.seg").write_bytes(b"x")
    data.delete(meta().id)
    assert list(data.channels_path.iterdir()) == []


def test_a_channel_s_record_is_readable_json(tmp_path: Path) -> None:
    """An operator can see which directory is which channel."""
    data = DataDir(tmp_path, OS_FILES)
    data.create(meta())
    stored = json.loads((data.channel_path(meta().id) / "channel.json").read_text())
    assert stored["name"] == "orders"
    assert stored["config"]["durability"] == "written"


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /tmp rw - tmpfs tmpfs rw
31 22 0:26 / /mnt/nas rw - nfs4 nas:/x rw
32 22 0:27 / /merged rw - overlay overlay rw
33 22 254:16 / /old rw - ext4 /dev/vdb rw
34 22 0:28 / /with\\040space rw - fuse.sshfs x rw
"""


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/tmp/d", "memory"),
        ("/mnt/nas/d", "nfs4"),
        ("/merged/d", "overlay"),
        ("/old/d", "journal"),
        ("/with space/d", "fuse"),
    ],
)
def test_a_file_system_that_can_t_keep_the_promise_is_named(path: str, word: str) -> None:
    """One line that says why."""
    warning = filesystem_warning(MOUNTS, Path(path), {"vda-8"})
    assert warning is not None
    assert word in warning


@pytest.mark.parametrize("path", ["/data", "/tmpx/d"])
def test_a_journalled_disk_needs_no_warning(path: str) -> None:
    """Ext4 with a journal; and a path that only begins like a mount point."""
    assert filesystem_warning(MOUNTS, Path(path), {"vda-8"}) is None
