"""The parts that the worker here shares with those inside a server, from where `work` is from."""

try:
    from tornado_rt.work.parts import *
except ModuleNotFoundError as error:
    if error.name not in ("tornado_rt", "tornado_rt.work"):
        raise
    from tornado_rt_client._work.parts import *
