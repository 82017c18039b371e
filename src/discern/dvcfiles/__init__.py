"""The one reader of DVC's files: dvc.yaml, dvc.lock and the cache."""
