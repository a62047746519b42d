"""`python -m monitoring.http` says whether what runs for every request is compiled here."""

from importlib import import_module

from . import compiled

if compiled():
    import_module("monitoring.http.route_template")  # fails where what was compiled cannot be loaded
    print("monitoring.http is compiled")
else:
    print("monitoring.http is interpreted, 3 us a request slower; `NEURECTOMY_COMPILE=1 make setup` says what is missing to compile it")
