"""The API for authors of work: `Kind`, `Step`, `Run`, `TaskError`, `Retry` and the rest.

Where the server is installed too it is the server's own `tornado_rt.work`, so that there is one
class `Kind` in the process.
"""

try:
    from tornado_rt.work import *
except ModuleNotFoundError as error:
    if error.name not in ("tornado_rt", "tornado_rt.work"):
        raise
    from tornado_rt_client._work import *
