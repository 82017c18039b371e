"""Losses between two views of an image; each can also be the L_C of ours."""
