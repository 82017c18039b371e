"""The one evaluation protocol: frozen features in, figures with intervals out."""
