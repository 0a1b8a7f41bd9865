"""What the API server asks before it stores something: NovaServices are checked, pods get the sidecar.

Every replica answers, the leader alone writes. Kopf's admission server is not used: it lives and dies with Kopf's
watches, which only the leader has, and an API server that asks one of two replicas must not find every other call
refused. What is decided is decided by the code that the reconciler uses: a service that is refused here would have
become Ready=False there, with the same words.

    risks, review, injection, validation, certificates, repair   pure: no clock, no cluster, no loop
    hooks, server, watch, replica                                every replica, in a thread of their own
    keeper, repairer                                             the leader

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""
