import os
import sys

from pipeline.cli import main
from serving.interrupt import raise_when_interrupted

if __name__ == "__main__":
    raise_when_interrupted()  # a job that is cancelled leaves no more than Ctrl-C does
    sys.exit(main(sys.argv[1:], os.environ))
