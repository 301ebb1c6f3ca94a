"""Lengths to blocks of one size: which examples share a block so that little of it is left empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def pack_lengths(lengths: Sequence[int], block_len: int) -> list[list[int]]:
    """Best-fit decreasing: the numbers (from 0) of the examples in each block, every example once.

    From the longest to the shortest, each goes into the fullest block that still has room for it. Raises
    ``ValueError`` for a length above ``block_len``.
    """
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


def _least_room(rooms: int, length: int) -> int | None:
    fitting = rooms >> length
    return length + (fitting & -fitting).bit_length() - 1 if fitting else None


def _check(length: int, block_len: int) -> None:
    if length > block_len:
        raise ValueError(f"an example of {length} tokens does not fit a block of {block_len}")
