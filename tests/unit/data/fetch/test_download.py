import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from detrkit.data.fetch.download import Retries, Source, download
from detrkit.data.fetch.progress import Progress
from detrkit.errors import DetrkitError

BODY = np.random.default_rng(0).bytes(200_000)
PATH = "/zips/some.zip"


class Download:
    """One download of BODY from the server, and what was seen of it."""

    def __init__(self, server: Any, folder: Path, client: httpx.Client) -> None:
        server.files[PATH] = BODY
        self.server = server
        self.target = folder / "some.zip"
        self.part = folder / "some.zip.part"
        self.client = client
        self.source = Source(server.url + PATH, len(BODY), sha256(BODY).hexdigest())
        self.pauses: list[float] = []
        self.seen: list[Progress] = []

    def run(self, tries: int = 4) -> None:
        retries = Retries(self.pauses.append, tries)
        download(self.client, self.source, self.target, retries, self.seen.append)
        assert self.target.read_bytes() == BODY
        assert not self.part.exists()

    @property
    def asked(self) -> list[int | None]:
        """The first byte of each request's range."""
        return [request.first for request in self.server.requests]


@pytest.fixture
def fetched(server: Any, tmp_path: Path) -> Iterator[Download]:
    with httpx.Client(follow_redirects=True, timeout=5) as client:
        yield Download(server, tmp_path, client)


def test_a_dropped_transfer_goes_on_where_it_stopped(server: Any, fetched: Download) -> None:
    server.answer(PATH, cut=70_000)
    fetched.run()
    assert fetched.asked == [None, 70_000]
    assert sum(request.sent for request in server.requests) == len(BODY)


def test_what_an_earlier_process_left_is_not_fetched_again(server: Any, fetched: Download) -> None:
    fetched.part.write_bytes(BODY[:150_000])
    fetched.run()
    assert [tuple(request)[1:] for request in server.requests] == [(150_000, 50_000)]
    assert fetched.seen[0].done == 150_000
    assert fetched.pauses == []


def test_a_transfer_may_break_off_any_number_of_times(server: Any, fetched: Download) -> None:
    server.answer(PATH, times=15, cut=10_000)
    fetched.run(tries=2)
    assert fetched.asked == [None, *range(10_000, 160_000, 10_000)]
    assert fetched.pauses == [1.0] * 15


def test_a_server_that_ignores_ranges_sends_all_again(server: Any, fetched: Download) -> None:
    server.answer(PATH, cut=70_000)
    server.answer(PATH, ranges=False)
    fetched.run()
    assert fetched.asked == [None, 70_000]
    assert [one.done for one in fetched.seen if one.stage == "fetching"].count(0) == 2


def test_a_server_that_never_gets_further_is_given_up(server: Any, fetched: Download) -> None:
    server.answer(PATH, times=20, cut=70_000, ranges=False)
    with pytest.raises(DetrkitError, match=r"4 tries in a row failed .* 70,000 of 200,000 bytes"):
        fetched.run(tries=4)
    assert len(server.requests) == 4
    assert fetched.part.read_bytes() == BODY[:70_000]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(server: Any, fetched: Download, status: int) -> None:
    server.answer(PATH, times=3, status=status)
    fetched.run()
    assert fetched.pauses == [1.0, 2.0, 4.0]


def test_a_server_that_fails_for_good_is_given_up(server: Any, fetched: Download) -> None:
    server.answer(PATH, times=99, status=500)
    with pytest.raises(DetrkitError, match=r"9 tries in a row failed \(it answers 500 .* --mirror"):
        fetched.run(tries=9)
    assert fetched.pauses == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_file_that_is_not_there_is_asked_for_once(server: Any, fetched: Download, status: int) -> None:
    server.answer(PATH, times=99, status=status)
    with pytest.raises(DetrkitError, match=f"some.zip answers {status} "):
        fetched.run()
    assert fetched.asked == [None]


def test_redirects_are_followed_with_the_range(server: Any, fetched: Download) -> None:
    server.files["/moved.zip"] = BODY
    fetched.part.write_bytes(BODY[:5])
    server.answer(PATH, status=302, location="/moved.zip")
    fetched.run()
    assert [tuple(request) for request in server.requests] == [(PATH, 5, 0), ("/moved.zip", 5, 199_995)]


@pytest.mark.parametrize("stated", [1_000, 900_000])
def test_a_wrong_length_is_not_believed(server: Any, fetched: Download, stated: int) -> None:
    server.answer(PATH, stated=stated, cut=1_000)
    fetched.run()
    assert fetched.asked == [None, None]
    fetched.target.unlink()
    server.answer(PATH, times=99, stated=stated, cut=1_000)
    with pytest.raises(DetrkitError, match=f"states {stated} bytes where 200000 are expected"):
        fetched.run()


def test_without_a_length_the_end_is_noticed(server: Any, fetched: Download) -> None:
    server.answer(PATH, has_length=False, cut=30_000)
    fetched.run()
    assert fetched.asked == [None, 30_000]


def test_a_range_from_elsewhere_is_not_used(server: Any, fetched: Download) -> None:
    fetched.part.write_bytes(BODY[:1000])
    server.answer(PATH, shift=7)
    fetched.run()
    assert fetched.asked == [1000, None]


def test_a_range_that_cannot_be_satisfied_starts_anew(server: Any, fetched: Download) -> None:
    fetched.part.write_bytes(BODY[:1000])
    server.answer(PATH, status=416)
    fetched.run()
    assert fetched.asked == [1000, None]


def test_a_part_longer_than_the_file_is_given_up(fetched: Download) -> None:
    fetched.part.write_bytes(BODY + b"more")
    fetched.run()
    assert fetched.asked == [None]


def test_spoilt_bytes_are_fetched_once_more(server: Any, fetched: Download) -> None:
    server.answer(PATH, spoil=True)
    fetched.run()
    assert fetched.asked == [None, None]


def test_another_file_of_the_same_size_is_refused(server: Any, fetched: Download) -> None:
    server.answer(PATH, times=2, spoil=True)
    with pytest.raises(DetrkitError, match=f"not the SHA-256 {fetched.source.sha256}"):
        fetched.run()
    assert len(server.requests) == 2
    assert list(fetched.target.parent.iterdir()) == []


def test_an_intact_file_is_kept_and_a_damaged_one_fetched(fetched: Download) -> None:
    fetched.target.write_bytes(BODY)
    fetched.run()
    assert fetched.asked == []
    fetched.target.write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    fetched.run()
    assert fetched.asked == [None]


def test_a_server_that_is_not_there(fetched: Download) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}/some.zip"
    fetched.source = fetched.source._replace(url=address)
    with pytest.raises(DetrkitError, match=r"4 tries in a row failed .* check the network"):
        fetched.run()
