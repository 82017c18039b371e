"""Losses between views, and what tasks they make of images: the networks' side of `discern.arms`."""
