"""Progress on a terminal and in a log."""

import io

from embarchive.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told(stream, steps, **options):
    times = iter(range(1000))
    progress = Progress(stream=stream, clock=lambda: next(times), **options)
    for step in steps:
        progress(*step)
    progress.close()
    return stream.getvalue()


def test_a_log_gets_whole_lines_now_and_then_and_always_the_last():
    steps = [("encode", done, 12) for done in range(13)]
    lines = told(io.StringIO(), steps, every=5).splitlines()
    assert lines == ["encode 0/12", "encode 5/12", "encode 10/12", "encode 12/12"]


def test_a_terminal_line_is_redrawn_and_ended():
    text = told(Terminal(), [("read", 1, 2), ("read", 2, 2), ("write", 1, 9)], every=0)
    assert text == "\r\x1b[Kread 1/2\r\x1b[Kread 2/2\n\r\x1b[Kwrite 1/9\n"


def test_a_stage_of_unknown_length_tells_its_count():
    assert told(io.StringIO(), [("find scenes", 3, 0)]) == "find scenes 3\n"


def test_quiet_says_nothing():
    assert told(io.StringIO(), [("encode", 1, 1)], quiet=True) == ""
