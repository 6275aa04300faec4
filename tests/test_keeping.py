"""The commands that look after an archive."""

import json
import os
import time

import pytest
from archives import append_date, make_archive

from embarchive.cli import main
from embarchive.store import open_store

LEFT = "blocks/" + "a" * 64


@pytest.fixture
def root(tmp_path):
    make_archive(tmp_path, 300)
    return tmp_path


def run(capsys, *arguments):
    """(status, standard output, standard error)"""
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_gc_lists_then_deletes(root, capsys):
    open_store(root).put_new(LEFT, b"left")
    then = time.time() - 30 * 3600
    os.utime(root / LEFT, (then, then))
    status, out, err = run(capsys, "gc", root)
    assert status == 0 and "gc 1/1" in err and (root / LEFT).exists()
    assert out.startswith(f"would remove {LEFT}, 4 bytes, 30.0 h old\n")
    status, out, _ = run(capsys, "gc", root, "--delete", "--json", "-q", "--grace", "31")
    assert json.loads(out)["removed"] == [] and (root / LEFT).exists()
    status, out, _ = run(capsys, "gc", root, "--delete", "--json", "-q", "--grace", "29")
    document = json.loads(out)
    assert status == 0 and document["deleted"] and document["bytes"] == 4
    assert [one["object"] for one in document["removed"]] == [LEFT]
    assert not (root / LEFT).exists()


def test_compact_says_what_it_merged_and_that_there_is_nothing(root, capsys):
    append_date(root, 1)
    status, out, err = run(capsys, "compact", root, "--json", "--below", "10000")
    found = json.loads(out)
    assert status == 0 and found["merged"] and found["rows"] == 600 and "compact" in err
    status, out, _ = run(capsys, "compact", root, "-q")
    assert (status, out) == (0, "nothing to merge: generation 3 stays\n")


@pytest.mark.parametrize("name", ["gc", "compact"])
def test_what_cannot_be_kept_is_refused_in_a_line(capsys, tmp_path, name):
    for where, reason in ((tmp_path / "none", "embarchive.json"), ("http://h:1/a", "read only")):
        status, _, err = run(capsys, name, where, "-q")
        assert status == 2 and reason in err and err.count("\n") == 1
