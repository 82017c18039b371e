"""Jigsaw puzzles (Noroozi & Favaro 2016, arXiv 1603.09246)."""
