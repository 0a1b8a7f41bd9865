"""`nova services`: PostgreSQL, Redis and Kafka on this machine's loopback, for a developer and for tests.

    kafka, postgres, redis   what a server is made of: where its programs are, its folder, its command, when it is ready
    running                  starts servers that outlive the command, and stops exactly those
    command                  the verbs

Nothing here is for production: one node each, no passwords, and what a crash of the machine loses is lost.
"""
