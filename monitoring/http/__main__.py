"""`python -m monitoring.http` says whether what runs for every request is compiled here."""

from . import compiled

if compiled():
    print("monitoring.http is compiled")
else:
    print("monitoring.http is interpreted, 3 us a request slower: where there are a C compiler and Python's headers, make compiles it")
