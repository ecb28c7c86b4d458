"""Counted places at which a process can be made to die, so that a test of recovery kills where it says and not by the clock.

Every write of `simulator.run_directory` that makes something appear passes two of them, right before it appears and right after. With
``USERSIM_KILL_AT=n`` in the environment the process ends itself at the n-th one, as ``kill -9`` would: nothing is tidied up.
Each process counts its own, so with several workers each of them dies at its own n-th.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "USERSIM_KILL_AT"
"""Environment variable with the number of the place, >= 1; unset in ordinary use."""

_passed = 0


def passed() -> None:
    """Says that such a place is passed."""
    global _passed  # noqa: PLW0603 - counts what this process does
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    _passed += 1
    if str(_passed) == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
