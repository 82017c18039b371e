"""Pretext tasks: objectives that make a question of an image, and its answer, out of the image alone."""
