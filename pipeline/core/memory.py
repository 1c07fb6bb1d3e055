"""A ceiling on the memory that reading an untrusted file may take."""

import contextlib
import os
import pathlib
import resource
from collections.abc import Iterator

_STATM = pathlib.Path("/proc/self/statm")


@contextlib.contextmanager
def at_most_more(n_bytes: int) -> Iterator[None]:
    """Inside the block the process may take `n_bytes` more of address space; beyond, allocations raise MemoryError.

    A lower limit that is in force already stays. Where the system does not say how much is taken, as outside Linux,
    there is no limit.
    """
    if not _STATM.exists():
        yield
        return
    taken = int(_STATM.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    limits = [limit for limit in before if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([taken + n_bytes, *limits]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
