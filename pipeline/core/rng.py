"""Named random streams: every random draw comes from a generator named by (run seed, purpose, index, ...).

Streams with different names are independent; the same name gives the same draws in any process, on any machine and
for any number of workers. Nothing in the package seeds a global generator.
"""

import hashlib

import numpy as np


def stream_seed(seed: int, *names: object) -> int:
    """63-bit seed of the stream called `names` in the run with this `seed`."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *names: object) -> np.random.Generator:
    """A fresh numpy generator at the start of the stream."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *names)))


def torch_stream(seed: int, *names: object, device: str = "cpu"):
    """A fresh torch.Generator at the start of the stream."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *names))
