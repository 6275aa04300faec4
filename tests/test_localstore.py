import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from embarchive import localstore
from embarchive.errors import (
    BadInput,
    CommitUnknown,
    Conflict,
    Damaged,
    Missing,
    NotAnArchive,
    StoreUnreachable,
)
from embarchive.localstore import LocalStore


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "a" / "b")


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".tmp-")]


def failing(monkeypatch, call, code, when=lambda *a, **k: True):
    """Let an os call fail with this code."""
    real = getattr(os, call)

    def fail(*args, **kwargs):
        if when(*args, **kwargs):
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(localstore.os, call, fail)


def test_objects_round_trip_and_are_counted(store):
    store.put_new("models/x", b"0123456789")
    assert store.get("models/x") == b"0123456789"
    assert store.get_ranges("models/x", [(0, 2), (8, 10)]) == [b"01", b"89"]
    assert (store.requests, store.bytes_read) == (3, 14)


def test_nothing_is_made_before_the_first_write(store, tmp_path):
    assert store.read_pointer() is None and store.list("") == []
    with pytest.raises(Missing):
        store.get("models/x")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../x", "a//b", "", ".", "a/.", "a\0b", "a\nb", "x/", "~/x", 
     "a\\..\\b", "%2e%2e/x", "é"],
)  # fmt: skip
def test_a_path_that_could_leave_the_root_is_refused(store, path):
    for verb in (
        store.get,
        store.delete,
        lambda p: store.put_new(p, b""),
        lambda p: store.get_ranges(p, [(0, 1)]),
    ):
        with pytest.raises(BadInput, match="object path"):
            verb(path)


def test_no_symbolic_link_is_followed(store, tmp_path):
    store.put_new("models/x", b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    root = tmp_path / "a" / "b"
    (root / "models" / "link").symlink_to(tmp_path / "secret")
    (root / "blocks").symlink_to(tmp_path)
    for path in ("models/link", "blocks/secret"):
        with pytest.raises(Damaged, match="symbolic link"):
            store.get(path)
        with pytest.raises(Damaged, match="symbolic link"):
            store.get_ranges(path, [(0, 1)])
    with pytest.raises(BadInput, match="unwritable target"):
        store.put_new("blocks/y", b"new")
    assert not (tmp_path / "y").exists()


def test_writing_over_a_link_replaces_the_link(store, tmp_path):
    store.put_new("models/x", b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "a/b/models/link").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="unwritable"):
        store.put_new("models/link", b"new")
    assert (tmp_path / "secret").read_bytes() == b"outside"


def test_a_link_to_the_root_itself_is_the_users_choice(store, tmp_path):
    store.put_new("models/x", b"inside")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    assert LocalStore(tmp_path / "link").get("models/x") == b"inside"


def test_a_pipe_or_socket_is_no_object(store, tmp_path, monkeypatch):
    store.put_new("models/x", b"inside")
    os.mkfifo(tmp_path / "a/b/models/pipe")
    with pytest.raises(Damaged, match="regular file"):
        store.get("models/pipe")
    monkeypatch.chdir(tmp_path / "a/b/models")  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises((Damaged, StoreUnreachable)):
            store.get("models/socket")


def test_lengths_are_checked_before_reading(store):
    store.put_new("models/x", b"0123456789")
    with pytest.raises(Damaged, match="expected 9 bytes, found 10"):
        store.get("models/x", length=9)
    with pytest.raises(Damaged, match="expected at most 5 bytes, found 10"):
        store.get("models/x", limit=5)
    with pytest.raises(Damaged, match="expected at least 11 bytes, found 10"):
        store.get_ranges("models/x", [(0, 11)])
    assert store.requests == 0


def test_a_rotten_object_is_written_again(store, tmp_path):
    store.put_new("models/x", b"right")
    (tmp_path / "a/b/models/x").write_bytes(b"wrong")
    store.put_new("models/x", b"right")
    assert store.get("models/x") == b"right"


def test_the_pointer_is_swapped_only_from_what_was_read(store):
    store.swap_pointer(b"one", None)
    data, token = store.read_pointer()
    assert data == b"one"
    store.swap_pointer(b"two", token)
    for stale in (token, None):
        with pytest.raises(Conflict):
            store.swap_pointer(b"three", stale)
    assert store.read_pointer()[0] == b"two"


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failed_write_leaves_the_old_and_nothing_else(store, tmp_path, monkeypatch, call, code):
    store.swap_pointer(b"one", None)
    token = store.read_pointer()[1]
    failing(monkeypatch, call, code)
    with pytest.raises(StoreUnreachable, match=os.strerror(code)):
        store.swap_pointer(b"two", token)
    with pytest.raises(StoreUnreachable, match="cannot be written"):
        store.put_new("models/x", b"new")
    assert store.read_pointer()[0] == b"one" and not leftovers(tmp_path)
    assert not (tmp_path / "a/b/models/x").exists()


def test_a_pointer_that_may_not_be_durable_is_not_acknowledged(store, monkeypatch):
    store.swap_pointer(b"one", None)
    token = store.read_pointer()[1]
    failing(monkeypatch, "fsync", errno.EIO, when=lambda h: os.path.isdir(f"/proc/self/fd/{h}"))
    with pytest.raises(CommitUnknown, match="durable"):
        store.swap_pointer(b"two", token)


def test_file_and_folder_are_on_the_disk_before_a_write_returns(store, monkeypatch):
    seen = []
    for call in ("fsync", "rename"):
        real = getattr(os, call)

        def note(*args, call=call, real=real, **kwargs):
            kind = "folder" if call == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}") else ""
            seen.append(call + kind)
            return real(*args, **kwargs)

        monkeypatch.setattr(localstore.os, call, note)
    store.put_new("models/x", b"1")
    assert seen[-3:] == ["fsync", "rename", "fsyncfolder"]
    assert seen.count("fsyncfolder") == 4  # a, b, models and the object's name
    store.swap_pointer(b"one", None)
    assert seen[-3:] == ["fsync", "rename", "fsyncfolder"]


def test_an_unwritable_target_is_bad_input(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for verb in (lambda s: s.check_writable(), lambda s: s.put_new("a/b", b"1")):
        with pytest.raises(BadInput, match="unwritable target"):
            verb(LocalStore(tmp_path / "file"))
        with pytest.raises(BadInput, match="unwritable target"):
            verb(LocalStore(tmp_path / "file" / "below"))


def test_a_file_is_no_archive(tmp_path):
    (tmp_path / "file.tif").write_bytes(b"x")
    with pytest.raises(NotAnArchive, match="found a file"):
        LocalStore(tmp_path / "file.tif").read_pointer()


def test_a_huge_pointer_is_not_read(store, tmp_path):
    store.swap_pointer(b"one", None)
    (tmp_path / "a/b/embarchive.json").write_bytes(b" " * 2000)
    with pytest.raises(NotAnArchive, match="at most 1024 bytes"):
        store.read_pointer()


def test_a_held_lock_ends_with_the_deadline(store, tmp_path):
    slow = LocalStore(tmp_path / "a" / "b", deadline=0.05)
    slow.check_writable()
    with slow._folder([]) as folder, localstore._locked(folder, 1), pytest.raises(StoreUnreachable):
        slow.swap_pointer(b"one", None)


def test_listing_finds_files_but_no_links(store, tmp_path):
    store.put_new("models/x", b"123")
    store.put_new("blocks/y", b"4")
    (tmp_path / "a/b/models/link").symlink_to("/etc")
    assert [(e.path, e.length) for e in store.list("")] == [("blocks/y", 1), ("models/x", 3)]
    assert [e.path for e in store.list("models")] == ["models/x"]
    store.delete("models/x")
    store.delete("models/x")
    assert store.list("models") == []


def test_a_delete_takes_empty_folders_along_but_not_the_root(store, tmp_path):
    store.put_new("staging/p/train/x", b"1")
    store.put_new("staging/q/x", b"2")
    store.delete("staging/p/train/x")
    assert not (tmp_path / "a/b/staging/p").exists()
    assert store.get("staging/q/x") == b"2"
    store.delete("staging/q/x")
    assert list((tmp_path / "a/b").iterdir()) == []


def test_a_folder_that_another_deleted_is_made_again(store, tmp_path):
    other = LocalStore(tmp_path / "a" / "b")
    store.put_new("staging/p/x", b"1")
    other.delete("staging/p/x")
    store.put_new("staging/p/y", b"2")
    assert other.get("staging/p/y") == b"2"


def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(tmp_path):
    def work(number):
        own = LocalStore(tmp_path / "archive")
        for turn in range(60):
            own.put_new(f"staging/p/{number}", b"%d" % turn)
            assert own.get(f"staging/p/{number}") == b"%d" % turn
            own.delete(f"staging/p/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert list((tmp_path / "archive").iterdir()) == []
