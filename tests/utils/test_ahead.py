"""Work ahead of its user: in order, no further than is allowed, with the errors of the work."""

import threading
import time
from contextlib import closing

import pytest

from oskdft.utils import ahead as module
from oskdft.utils.ahead import ahead

GROUPS = [[3 * n, 3 * n + 1, 3 * n + 2] for n in range(9)]


def test_groups_come_in_order_however_long_their_work_takes():
    def work(item: int) -> int:
        time.sleep(0.002 * (item * 7 % 5))
        return 10 * item

    assert list(ahead(work, GROUPS)) == [[10 * item for item in group] for group in GROUPS]


def test_the_next_groups_and_no_others_are_worked_on_meanwhile():
    """The work of two groups is done while the first is in use; the fourth is not begun."""
    done, ready = set(), threading.Event()

    def work(item: int) -> int:
        done.add(item)
        if set(range(9)) <= done:
            ready.set()
        return item

    with closing(ahead(work, GROUPS)) as results:
        assert next(results) == GROUPS[0]
        assert ready.wait(20), done
        time.sleep(0.05)
        assert done == set(range(3 * (1 + module.GROUPS)))


def test_an_error_is_raised_with_its_own_group_and_ends_the_threads():
    def work(item: int) -> int:
        if item == 4:
            raise ValueError("item 4 is bad")
        return item

    before = threading.active_count()
    results = ahead(work, GROUPS)
    assert next(results) == GROUPS[0]
    with pytest.raises(ValueError, match="item 4 is bad"):
        next(results)
    assert threading.active_count() == before
