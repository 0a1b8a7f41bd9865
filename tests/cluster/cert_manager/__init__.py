"""cert-manager, compiled from its own packages: its program, its definitions and the kinds that tests look at."""
