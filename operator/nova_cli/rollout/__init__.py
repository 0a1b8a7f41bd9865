"""`nova rollout`: look at a canary, and say whether it goes on.

view      a canary's status as people read it
watch     prints it, and how it goes on
tell      writes down what is wanted of it, and waits until that is done
service   the NovaService that both speak of
command   the verbs
"""
