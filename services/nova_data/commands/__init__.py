"""The sub-commands of `nova-data`, a module each: they read arguments, call what does the work, and print."""
