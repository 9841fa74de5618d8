import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from detrkit.training.interruption import ECHO, PATIENCE, Interruption, Stopped, ignore_signals

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[int]]:
    """Handlers of our own, which note the signals that reach them, so that no signal ends the tests."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in SIGNALS}
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_only_ctrl_c_after_its_echo_acts_as_always(
    number: int, handlers: list[int]
) -> None:
    now = 100.0
    with Interruption(clock=lambda: now) as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
        now += ECHO
        os.kill(os.getpid(), signal.SIGINT)
        assert handlers == []
        now += 1000
        for later in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), later)
        assert interruption.signal == number
        assert handlers == []
        os.kill(os.getpid(), signal.SIGINT)
        assert handlers == [signal.SIGINT]


def test_a_signal_ends_a_wait_that_would_never_end_and_the_next_wait_at_once() -> None:
    reader, _ = os.pipe()
    with Interruption() as interruption:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        begun = time.monotonic()
        with pytest.raises(Stopped), interruption.ending_waits():
            os.read(reader, 1)
        assert PATIENCE < time.monotonic() - begun < PATIENCE + 5
        with pytest.raises(Stopped), interruption.ending_waits():
            raise AssertionError("it was not at once")
        assert interruption.signal == signal.SIGTERM


@pytest.mark.parametrize("number", SIGNALS)
def test_a_wait_that_ends_by_itself_is_left_alone(number: int, handlers: list[int]) -> None:
    with Interruption() as interruption:
        with interruption.ending_waits():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)  # as launchers pass it on
        assert interruption.requested
    time.sleep(1.5 * PATIENCE)
    assert handlers == []


def test_a_signal_that_is_ignored_stays_ignored(handlers: list[int]) -> None:
    """As Ctrl-C is for what a script runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert not interruption.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_one_that_is_left_before_another_hands_on_what_it_hears(handlers: list[int]) -> None:
    first, second = Interruption(), Interruption()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    os.kill(os.getpid(), signal.SIGTERM)
    assert second.requested
    assert not first.requested
    second.__exit__(None, None, None)
    assert handlers == []
    os.kill(os.getpid(), signal.SIGINT)
    assert handlers == [signal.SIGINT]


def test_what_is_ignored_at_the_end_stays_so_afterwards() -> None:
    with Interruption():
        ignore_signals()
        for number in SIGNALS:
            os.kill(os.getpid(), number)
    assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}


def test_in_a_worker_that_has_just_begun_nothing_is_asked() -> None:
    with Interruption(tells=True) as interruption, interruption.ending_waits():
        if (child := os.fork()) == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(interruption.requested)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("tells", [True, False])
def test_the_first_signal_is_answered_once(tells: bool, capfd: pytest.CaptureFixture[str]) -> None:
    with Interruption(tells):
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
    said = capfd.readouterr().err
    assert said.startswith("SIGUSR1: the run saves and ends soon;") is tells
    assert len(said.splitlines()) == tells


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("interrupted", [False, True])
def test_afterwards_signals_go_where_they_went_before(
    fails: bool, interrupted: bool, handlers: list[int]
) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with Interruption():
            assert [signal.getsignal(number) for number in SIGNALS] != before
            if interrupted:
                os.kill(os.getpid(), signal.SIGTERM)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert handlers == []


def test_outside_the_main_thread_nothing_is_changed() -> None:
    seen: list[object] = []

    def run() -> None:
        with Interruption() as interruption:
            seen.extend([interruption.requested, *(signal.getsignal(number) for number in SIGNALS)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False, *(signal.getsignal(number) for number in SIGNALS)]
