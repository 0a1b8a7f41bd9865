"""`nova demo backend`: the reference backend with its stores on the cluster, and a walk through all of it.

    stores      PostgreSQL, Redis and Kafka as pods, with a database for each service and the topics
    services    examples/backend/*.yaml with what they need: Secrets, ConfigMaps of migrations, a size for one machine
    bring_up    puts all of it in place
    stage       reaches it: people who are logged in, Kafka's messages, PostgreSQL's tables, everybody's log lines
    walk        the claims, in the order of a day: sign up, post, chat, search, delete, show, be forgotten
    trail       one correlation id, followed through HTTP, gRPC, Kafka and all logs

Nothing has to be applied in an order: what comes before the thing that it needs waits for it.
"""
