"""Search strategies by ask and tell; one file each. They know neither proxies nor networks."""

from pipeline.core.registry import Registry

STRATEGIES = Registry("strategies", "strategy")
get, names = STRATEGIES.get, STRATEGIES.names
