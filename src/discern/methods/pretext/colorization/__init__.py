"""Colourisation (Zhang et al. 2016, arXiv 1603.08511)."""
