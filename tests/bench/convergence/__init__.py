"""`make bench-operator`: how the operator does with a thousand services, beside a bare client on the same API server.

`--help` says what is measured. Here are the rules under which it is fair:

* Bare client and operator write the same manifests (`desired_state`), by server-side apply, with as many requests in
  flight, to one API server, in turns, each round in fresh namespaces. The bare client does nothing else: its bodies are
  encoded beforehand, and it looks at nothing. It does not write a status; the operator has to, before it is done.
* Both begin with the NovaServices, which a client applies; so the owner references of the children are real.
* No kubelet runs, but for the last figure. A service has converged when all its children are there as wanted and its
  status speaks of its generation. This is looked up by listing, and the children are compared once the time has been
  taken.
* The controller manager runs as in any cluster and makes ReplicaSets and pods of what both write.
"""
