"""A real Kubernetes on one machine, for the demo and the tests: kind where Docker answers, else processes of our own.

`provider.py` chooses between the two, and everything else only sees its `Provider` interface. The local one needs no
registry: the control plane is compiled from Go modules (`node/`), the rest comes from the machine's package manager.
It runs in namespaces and a cgroup of its own, so that stopping it leaves nothing behind.
"""
