"""One module a DVC stage: parameters → load → call the library → write outputs → record. None imports another."""
