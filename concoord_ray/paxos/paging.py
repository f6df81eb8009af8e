"""Decisions in pages that fit into frames."""

from __future__ import annotations

from concoord_ray.paxos.messages import Decisions
from concoord_ray.paxos.outputs import Decided


def decision_pages(epoch: int, decided: list[Decided], below: int, page_bytes: int) -> list[Decisions]:
    """Decisions in slot order, about ``page_bytes`` at a time: one may be as large as a frame allows.

    The sender knows every decision ``below``.

    A page is of consecutive slots. What others told a leader meanwhile is missing among its own.
    """
    pages: list[Decisions] = []
    page: list[Decided] = []
    size = 0
    for one in decided:
        is_next = not page or one.slot == page[-1].slot + 1
        if page and (not is_next or size + len(one.value) > page_bytes):
            pages.append(_page(epoch, page, below))
            page, size = [], 0
        page.append(one)
        size += len(one.value)
    if page:
        pages.append(_page(epoch, page, below))
    return pages


def _page(epoch: int, page: list[Decided], below: int) -> Decisions:
    return Decisions(epoch, page[0].slot, tuple(value for _, value in page), below)
