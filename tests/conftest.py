"""One thread for each test process: pytest runs as many processes as there are cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)
