"""Two revisions of the project side by side: what went in, what came out, and whether the difference is real."""
