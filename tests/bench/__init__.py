"""Nova's sidecar beside Envoy, HAProxy and nginx, measured in one run.

Charter: start each proxy in front of the same upstream, load them in turn, print ratios. It knows the sidecar only as
a program that takes a document (`nova-sidecar --config`), exactly like the others, so it measures what users start.

Rules that keep the numbers honest:

1. One core for the proxy under test, one for the load generator and the upstream. A proxy is compared per core.
2. All proxies stay up during the run and are loaded in turn, in rounds, in rotating order: noise of the machine hits
   everyone, and a ratio is taken inside one round before the median over rounds is.
3. Latency at a fixed rate counts from the moment a request was due, not from when it was sent.
4. An error is counted and shown, and a CPU core that others used meanwhile is reported beside the result.
"""
