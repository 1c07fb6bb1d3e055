"""Layers, cells and whole networks: every candidate operation once, the hand-made nets, norms and initialisation."""
