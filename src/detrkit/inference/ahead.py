"""Making the next while the last is used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def made_ahead(make: Callable[[Given], Made], given: Iterable[Given]) -> Generator[Made]:
    """What ``make`` makes of each that is given, in order; while one is used, a thread makes the next.

    What ``make`` raises is raised here, in its turn. The thread ends with the generator.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        making: deque[Future[Made]] = deque()
        for item in given:
            making.append(thread.submit(make, item))
            if len(making) > 1:
                yield making.popleft().result()
        while making:
            yield making.popleft().result()
