"""Bytes and seconds in words."""

from __future__ import annotations


def as_size(size: float) -> str:
    """Bytes with their unit: ``1.4 GB`` (10^9), ``12 MB``, ``3 kB``."""
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if abs(size) >= step:
            return f"{size / step:,.1f} {unit}" if size < 10 * step or unit != "MB" else f"{size / step:,.0f} {unit}"
    return f"{size / 1e3:,.0f} kB"


def as_duration(seconds: float) -> str:
    """Seconds in the two largest units that say something: ``3 d 4 h``, ``2 h 10 min``, ``5 min``, ``0.8 s``."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
