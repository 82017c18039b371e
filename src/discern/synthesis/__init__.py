"""What the project exists for: score feature dimensions, perturb those that do not discriminate, decode pairs."""
