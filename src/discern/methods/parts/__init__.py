"""What several methods share: the two-view interface, momentum copies, queues, classifiers."""
