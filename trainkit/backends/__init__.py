"""Backends by name: where a run computes, and with how many processes."""

from trainkit.backends.single import Single

BACKENDS = {
    "single": Single,  # one process, one device
}
