"""What a loopback test stands on: the two ends of a connection, apps, faulty links and the sidecar process.

Everything is blocking and bounded: a transcript reads from top to bottom in one thread, and a wait that does not end
fails the test with what had arrived until then.
"""
