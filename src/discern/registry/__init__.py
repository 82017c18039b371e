"""From a trained encoder to a version in the model registry, and which version is champion."""
