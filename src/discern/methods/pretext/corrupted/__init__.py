"""SimCLR whose views are also corrupted (arXiv 2107.13973)."""
