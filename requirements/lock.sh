#!/usr/bin/env bash
# lock.sh: compile every *.in here to a hash-locked *.txt. All of them come from one list (dev.in), so that the
# laptop trains with the very versions that the images serve. Needs `uv`; run it after changing an *.in file.
set -euo pipefail
cd "$(dirname "$0")"

compile() { # SOURCE [CONSTRAINT...]
  uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
    --no-header --no-annotate "$1.in" "${@:2}" --output-file "$1.txt"
}

compile dev
compile audit # in an environment of its own
for image in featurizer predictor local_test pipeline trainer; do compile "$image" --constraints dev.txt; done
