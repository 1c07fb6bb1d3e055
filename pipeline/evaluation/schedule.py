"""When a plan of jobs is done: its critical path, and its end on a number of nodes."""

import heapq
from collections.abc import Collection, Mapping


def _followers(jobs: Collection[str], after: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Job -> jobs that wait for it."""
    found: dict[str, list[str]] = {job: [] for job in jobs}
    for job, earlier in after.items():
        for one in earlier:
            found[one].append(job)
    return found


def tails(seconds: Mapping[str, float], after: Mapping[str, Collection[str]]) -> dict[str, float]:
    """Seconds from the start of each job to the end of the longest chain that begins with it.

    Args:
        seconds: job -> how long it takes.
        after: job -> jobs that it waits for. All are keys of `seconds`, and no chain closes.
    """
    followers = _followers(seconds, after)
    waiting = {job: len(after.get(job, ())) for job in seconds}
    order = [job for job, n in waiting.items() if n == 0]
    for job in order:
        for follower in followers[job]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                order.append(follower)
    found: dict[str, float] = {}
    for job in reversed(order):
        found[job] = seconds[job] + max((found[one] for one in followers[job]), default=0.0)
    return found


def critical_path(seconds: Mapping[str, float], after: Mapping[str, Collection[str]]) -> list[str]:
    """The longest chain of jobs that wait for each other, first one first; no number of nodes ends sooner."""
    left = tails(seconds, after)
    path: list[str] = []
    followers = _followers(seconds, after)
    choice = [job for job in seconds if not after.get(job)]
    while choice:
        path.append(max(choice, key=left.__getitem__))
        choice = followers[path[-1]]
    return path


def end(seconds: Mapping[str, float], after: Mapping[str, Collection[str]], n_nodes: int) -> float:
    """Seconds until all jobs are done, each node doing one at a time; free nodes take the job with the longest tail.

    List scheduling: at most 2 - 1/n_nodes times the best plan (Graham, "Bounds on multiprocessing timing anomalies",
    SIAM Journal on Applied Mathematics 17, 1969).
    """
    left = tails(seconds, after)
    waiting = {job: len(after.get(job, ())) for job in seconds}
    followers = _followers(seconds, after)
    ready = [(-left[job], job) for job, n in waiting.items() if n == 0]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < n_nodes:
            _, job = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[job], job))
        now, done = heapq.heappop(running)
        for follower in followers[done]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, (-left[follower], follower))
    return now
