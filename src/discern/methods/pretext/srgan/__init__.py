"""SRGAN as pretext (Ledig et al. 2017, arXiv 1609.04802; arXiv 2107.13973)."""
