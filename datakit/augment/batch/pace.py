"""How large batches get, when they go, and how often they are looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. Both vendors take 50,000 requests in a file; Zhipu 100 MB of them, OpenAI 200."""

    most_requests: int = 50_000
    most_bytes: int = 100_000_000
    quiet_s: float = 1.0  # without a new request, after which those that are there go
    first_look_s: float = 1.0  # after a batch was made; doubled with each look
    most_look_s: float = 60.0
    lag_s: float = 5.0  # after which a batch that was made is in the server's list for sure
    patience_s: float = 120.0  # how long a server that fails is asked to take a batch
    outage_s: float = 3600.0  # how long one that holds batches may be out of reach
