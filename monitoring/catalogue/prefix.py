"""How every family of the catalogue begins; for those who must not import the catalogue, since that declares it."""

PREFIX = "neurectomy_"
