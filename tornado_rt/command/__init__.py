"""The command: `run.py` in a clone, `tornado-rt` where the package is installed.

`start` is what the installed command calls, `main` runs one command, `parsing` reads its options,
`verbs` has those that open the stores, and `remote` those that ask a server over HTTP.
"""
