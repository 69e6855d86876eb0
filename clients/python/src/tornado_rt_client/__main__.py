"""`python -m tornado_rt_client`: the command of the client."""

import sys

from tornado_rt_client.command import main

if __name__ == "__main__":
    sys.exit(main())
