"""The fork server imports this first: a signal to its whole group ends it as little as its tasks.

Else they would end before the worker gives them their grace time.
"""

from tornado_rt.work.attempts.cancelling import leave_signals_to_worker
from tornado_rt.work.attempts.preloading import take_back_path

take_back_path()
leave_signals_to_worker()
