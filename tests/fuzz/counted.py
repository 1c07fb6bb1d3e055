"""How many cases each parser was given, and how many of them it read."""

import collections

counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
