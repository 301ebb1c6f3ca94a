"""Lengths to blocks of one size: which examples share a block so that little of it is left empty."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Numbers = Any  # a sequence of whole numbers, or an array of them
WINDOW = 65_536  # examples packed together: best fit needs no more to fill its blocks, and its time stays even


def pack_epoch(
    lengths: Numbers, block_len: int, order: Numbers | None = None, *, window: int = WINDOW
) -> list[list[int]]:
    """The blocks of one epoch, best fit inside windows of about ``window`` examples; every example once.

    ``order`` is the epoch's shuffled order of all examples: it decides who shares a block with whom, among examples of
    one length. A window holds the same examples in every epoch (each n-th of the data, so that data sets that follow
    one another are mixed), hence every epoch has as many blocks: ``count_epoch``. The blocks come window by window and
    the longest examples first: shuffle them. Without an order the windows are stretches of the file and the blocks
    come by their first example, for runs in file order. Raises ``ValueError`` for a length above ``block_len``.
    """
    sizes = as_list(lengths)
    blocks = []
    for members in _windows(len(sizes), order, window):
        packed = pack_lengths([sizes[n] for n in members], block_len)
        blocks += [[members[place] for place in block] for block in packed]
    return blocks if order is not None else sorted(sorted(block) for block in blocks)


def count_epoch(lengths: Numbers, block_len: int, *, shuffled: bool, window: int = WINDOW) -> int:
    """How many blocks each epoch of ``pack_epoch`` has, with an order (``shuffled``) or without."""
    sizes = as_list(lengths)
    windows = _windows(len(sizes), range(len(sizes)) if shuffled else None, window)
    return sum(count_blocks(Counter(sizes[n] for n in members), block_len) for members in windows)


def _windows(num_examples: int, order: Sequence[int] | None, window: int) -> list[list[int]]:
    num_windows = -(-num_examples // window)
    if order is None:
        return [list(range(first, min(first + window, num_examples))) for first in range(0, num_examples, window)]
    windows: list[list[int]] = [[] for _ in range(num_windows)]
    for number in order:
        windows[number % num_windows].append(number)
    return windows


def knapsack(lengths: Numbers, capacity: int) -> list[list[int]]:
    """LLaMA-Factory 0.9.5's packing (``compat: strict``): the numbers of the examples in each block, every one once.

    A block takes the longest example that fits what room it has left, again and again; when none does, the next
    block begins. Of examples of one length the last comes first. Raises ``ValueError`` for a length above ``capacity``.
    """
    sizes = as_list(lengths)
    numbers = sorted(range(len(sizes)), key=sizes.__getitem__)
    left = [sizes[n] for n in numbers]
    if left:
        _check(left[-1], capacity)
    blocks = []
    while left:
        block, room = [], capacity
        while place := bisect_right(left, room):
            room -= left.pop(place - 1)
            block.append(numbers.pop(place - 1))
        blocks.append(block)
    return blocks


def knapsack_windows(lengths: Numbers, capacity: int, windows: Numbers) -> list[list[int]]:
    """``knapsack`` inside each window, as LLaMA-Factory packs within its map batches; ``windows`` are their numbers, one
    for each example."""
    sizes = as_list(lengths)
    members: dict[int, list[int]] = {}
    for number, window in enumerate(as_list(windows)):
        members.setdefault(window, []).append(number)
    return [[m[n] for n in block] for m in members.values() for block in knapsack([sizes[n] for n in m], capacity)]


def pack_lengths(lengths: Numbers, block_len: int) -> list[list[int]]:
    """Best-fit decreasing: the numbers (from 0) of the examples in each block, every example once.

    From the longest to the shortest, each goes into the fullest block that still has room for it. Raises
    ``ValueError`` for a length above ``block_len``.
    """
    lengths = as_list(lengths)
    blocks: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(block_len + 1)]  # room left -> the blocks that have it
    rooms = 0  # bit r is set where some block has room r: finding the least room that fits is one shift
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        length = lengths[number]
        room = _least_room(rooms, length)
        if room is None:
            _check(length, block_len)
            block, room = len(blocks), block_len
            blocks.append([])
        else:
            block = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
        blocks[block].append(number)
        with_room[room - length].append(block)
        rooms |= 1 << (room - length)
    return blocks


def count_blocks(counts: Mapping[int, int], block_len: int) -> int:
    """How many blocks ``pack_lengths`` fills, given how often each length occurs; its time grows with the distinct lengths.

    Examples of one length fill a block before the next is touched (what is left of it is then the least room that
    fits), so they can be placed many at a time.
    """
    num_blocks = 0
    with_room: dict[int, int] = {}  # room left -> how many blocks have it
    rooms = 0
    for length in sorted(counts, reverse=True):
        left = counts[length]
        _check(length, block_len)
        if not length:  # fits beside anything
            num_blocks = max(num_blocks, 1 if left else 0)
            continue
        while left:
            room = _least_room(rooms, length)
            per_block = (block_len if room is None else room) // length
            filled = left // per_block if room is None else min(with_room[room], left // per_block)
            placed = per_block if filled else left  # in each of these blocks
            touched = filled or 1
            if room is None:
                num_blocks += touched
            else:
                with_room[room] -= touched
                if not with_room[room]:
                    rooms &= ~(1 << room)
            left -= touched * placed
            rest = (block_len if room is None else room) - placed * length
            with_room[rest] = with_room.get(rest, 0) + touched
            rooms |= 1 << rest
    return num_blocks


def as_list(numbers: Numbers) -> list[int]:
    """Plain ints: arrays give up theirs at once, and NumPy's own would overflow in a shift and are slow one by one."""
    return numbers.tolist() if hasattr(numbers, "tolist") else list(numbers)


def _least_room(rooms: int, length: int) -> int | None:
    fitting = rooms >> length
    return length + (fitting & -fitting).bit_length() - 1 if fitting else None


def _check(length: int, block_len: int) -> None:
    if length > block_len:
        raise ValueError(f"an example of {length} tokens does not fit a block of {block_len}")
