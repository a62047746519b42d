"""The integrations behind the API, without HTTP: each module or package is one."""
