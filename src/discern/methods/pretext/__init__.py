"""Other tasks that need no labels."""
