"""`python -m tornado_rt` is the installed command."""

from tornado_rt.command.start import start

if __name__ == "__main__":
    start()
