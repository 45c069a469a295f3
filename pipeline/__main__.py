import os
import signal
import sys

from pipeline.cli import main

signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that is cancelled leaves no more than Ctrl-C does
sys.exit(main(sys.argv[1:], os.environ))
