"""Linear algebra on one thread, so that its last bits do not depend on how many cores there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import scipy.linalg  # noqa: F401 - its BLAS is a library of its own, which must be loaded to be told


@contextmanager
def one_thread() -> Iterator[None]:
    """While it lasts, BLAS and LAPACK of this process compute on one thread.

    They divide sums among their threads, so a fit on two threads differs in the last bits from one on four, and a container that may use
    other cores, or another OMP_NUM_THREADS, would give another log. Threads of other kinds (of language models, of torch) are not touched.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to import for what never computes

    with threadpool_limits(1, "blas"):
        yield
