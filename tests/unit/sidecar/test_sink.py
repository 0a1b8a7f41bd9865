import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_sidecar.telemetry.sink import CHUNK, LineSink

PIPE = 65_536


class Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> bytes:
        return os.read(self.reader, 1 << 20)

    def close_reader(self) -> None:
        os.close(self.reader)
        self.reader = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for end in (made.reader, made.writer):
        if end >= 0:
            os.close(end)


def lines(count: int, length: int = 100) -> bytes:
    return b"".join(b"%0*d\n" % (length - 1, number) for number in range(count))


def test_lines_are_there_at_once(pipe: Pipe) -> None:
    LineSink(pipe.writer).write(b"one\n")
    assert pipe.read() == b"one\n"


def test_a_reader_that_stalls_costs_no_waiting_and_loses_nothing_up_to_the_limit(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    text = lines(4000)

    sink.write(text, 4000)  # would block for good if it wrote more than fits

    got = pipe.read()
    while len(got) < len(text):
        sink.write(b"", 0)
        got += pipe.read()
    assert got == text
    assert sink.dropped == 0


def test_a_batch_goes_into_an_empty_pipe_by_one_call_and_in_chunks_behind_others(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def write(descriptor: int, text: bytes) -> int:
        sizes.append(len(text))
        return real(descriptor, text)

    real = os.write
    monkeypatch.setattr(os, "write", write)
    sink = LineSink(pipe.writer)
    sink.write(lines(200), 200)
    sink.write(lines(100), 100)
    assert sizes == [20_000, 4000, 4000, 2000]
    assert len(pipe.read()) == 30_000


def test_another_writer_that_fills_the_pipe_is_waited_for(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    os.write(pipe.writer, b"x" * (PIPE - 100))
    sink.write(lines(1000), 1000)
    assert pipe.read() == b"x" * (PIPE - 100)  # and less than a chunk of room was not used
    sink.write(b"", 0)
    assert pipe.read().endswith(b"\n")


def test_a_file_takes_all_at_once(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        LineSink(file.fileno()).write(lines(5000), 5000)
    assert (tmp_path / "log").read_bytes() == lines(5000)


def test_what_fits_into_a_pipe_ends_with_a_whole_line(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    sink.write(lines(2000), 2000)
    assert pipe.read().endswith(b"\n")


def test_a_line_longer_than_a_chunk_arrives_whole(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    long = b"x" * (3 * CHUNK) + b"\n"
    sink.write(b"before\n" + long + b"after\n", 3)
    assert pipe.read() == b"before\n" + long + b"after\n"


def test_beyond_the_limit_new_lines_are_dropped_and_counted(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer, limit=10_000)
    while os.get_blocking(pipe.writer) and not sink.dropped:
        sink.write(lines(50), 50)

    sink.write(b"lost\n")

    assert sink.dropped == 51
    assert b"lost" not in pipe.read()


def test_a_reader_that_is_gone_costs_lines_not_the_process(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    pipe.close_reader()
    sink.write(b"a\nb\n", 2)
    sink.write(b"c\n")
    assert sink.dropped == 3


def test_the_flag_of_the_file_stays_as_it_was(pipe: Pipe) -> None:
    """O_NONBLOCK would be there for every process that shares it."""
    LineSink(pipe.writer).write(lines(2000), 2000)
    assert os.get_blocking(pipe.writer)


def test_at_the_end_it_waits_for_the_reader(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    text = lines(5000)
    sink.write(text, 5000)
    got = bytearray()

    def read_all() -> None:
        while len(got) < len(text):
            got.extend(pipe.read())

    reader = threading.Thread(target=read_all)
    reader.start()
    sink.drain(10)
    reader.join(10)

    assert bytes(got) == text
    assert sink.dropped == 0


def test_at_the_end_it_does_not_wait_for_ever(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    sink.write(lines(2000), 2000)
    sink.drain(0.01)
    assert sink.dropped == 2000 - len(pipe.read()) // 100
