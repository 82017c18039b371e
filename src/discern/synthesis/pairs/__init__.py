"""Images that differ only in what does not discriminate, and training on them."""
