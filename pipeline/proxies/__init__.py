"""Proxies: one number per network, before any training; one file each."""

from pipeline.core.registry import Registry

PROXIES = Registry("proxies", "proxy")
get, names = PROXIES.get, PROXIES.names
