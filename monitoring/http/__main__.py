"""`python -m monitoring.http` prints whether the modules that run for every request are compiled here."""

from importlib import import_module

from . import compiled

if compiled():
    import_module("monitoring.http.route_template")  # fails if the compiled modules cannot be loaded
    print("monitoring.http is compiled")
else:
    print("monitoring.http is interpreted, 3 us a request slower; `NEURECTOMY_COMPILE=1 make setup` names what is missing to compile it")
