"""The fork server imports this first, and so outlives a closed terminal, as its worker does.

Else the tasks in processes would end before the worker gives them their grace time.
"""

import signal

signal.signal(signal.SIGHUP, signal.SIG_IGN)
