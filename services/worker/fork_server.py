"""What the server of forks imports first: it outlives a closed terminal, as its worker does.

Without it the tasks in processes would end before the worker gives them their grace time.
"""

import signal

signal.signal(signal.SIGHUP, signal.SIG_IGN)
