"""The surface for people, probes and the operator: two small HTTP servers beside the data path, never in it.

``status`` can be read from the cluster and changes nothing. ``control`` stays on loopback, shows the configuration
and can begin the drain. `view` says what there is to know, `pages` turns it into responses, `server` listens.
"""
