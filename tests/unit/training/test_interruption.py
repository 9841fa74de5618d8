import os
import signal
import threading
from collections.abc import Iterator

import pytest

from detrkit.training.interruption import ECHO, Interruption

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
def test_the_first_signal_asks_its_echo_does_nothing_and_a_later_one_acts_as_always(
    number: int, handlers: list[int]
) -> None:
    now = 100.0
    with Interruption(clock=lambda: now) as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
        now += ECHO
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal == number
        assert handlers == []
        now += 0.1
        os.kill(os.getpid(), number)
        assert handlers == [number]


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
