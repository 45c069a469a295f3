import os
import sys

from serving.interrupt import INTERRUPTED, raise_when_interrupted

if __name__ == "__main__":
    raise_when_interrupted()  # a job that is cancelled leaves no more than Ctrl-C does
    try:
        from serving.proxies import spare_loopback
        from serving.python import refuse_bare

        refuse_bare("pipeline")
        spare_loopback(os.environ)
        from pipeline.cli import main

        code = main(sys.argv[1:], os.environ)
    except KeyboardInterrupt:  # before a verb has begun
        code = INTERRUPTED
    sys.exit(code)
