#!/usr/bin/env bash
# build_and_push.sh: build the images for SageMaker and push them to Amazon ECR, each under its commit.
#
# usage: ./build_and_push.sh [OPTION]... [IMAGE]...
#
#   IMAGE                      a directory here that has a Dockerfile (default: featurizer predictor; pipeline is both)
#   --region REGION            default: AWS_REGION, AWS_DEFAULT_REGION, the profile's region
#   --profile PROFILE          of the AWS CLI
#   --repository-prefix NAME   default: REPOSITORY_PREFIX, else serial-inference: repository serial-inference/IMAGE
#   --tag TAG                  default: the commit's first 12 digits, and -dirty when something is not committed
#   --keep N                   how many images a repository made here keeps (default 30)
#   --json                     print the result as JSON
#   --dry-run                  print the commands that would change anything, and run none of them
#   --help
#
# Needs docker, git, and the AWS CLI (1.29 or 2.13, or newer) that can sign in; AWS_ENDPOINT_URL is honoured.
# Standard output has the result, one "IMAGE  URI@DIGEST" a line; everything else is on standard error.
# A tag is never overwritten: a commit that is there already is left alone and shown.
# BASE=IMAGE builds on another base image than the Dockerfile names. Its registry is asked for its digest; what is built
# is built from that digest, which its labels name.
#
# exit codes: 0 done, 1 something was refused or failed, 2 wrong arguments
set -euo pipefail
export LC_ALL=C AWS_PAGER="" # [a-z] means a to z; the AWS CLI must not wait in a pager
cd "$(dirname "${BASH_SOURCE[0]}")"

platform=linux/amd64 # the instances of ml.m5 and its like, whatever machine this is
# The only manifest that CreateModel takes for one image; it refuses OCI's manifest and index.
docker_manifest=application/vnd.docker.distribution.manifest.v2+json
revision_label=org.opencontainers.image.revision
base_label=org.opencontainers.image.base
allowed="docs/iam/build.json is a policy that allows what this needs"

region="" profile="" prefix=${REPOSITORY_PREFIX:-serial-inference} tag="" keep=30 json="" dry="" images=""
revision="" tag_is_commit="" account="" aws="" builder=""

say() { printf 'build_and_push: %s\n' "$*" >&2; }

fail() { # MESSAGE NEXT_STEP
  say "$1"
  say "next: $2"
  exit 1
}

wrong() { # MESSAGE
  say "$1"
  say "next: ./build_and_push.sh --help"
  exit 2
}

usage() { sed -n '2,/^set -euo/s/^# \{0,1\}//p' "${BASH_SOURCE[0]##*/}"; }

quoted() { # WORD...: a line that can be pasted into a shell
  local word line=""
  for word in "$@"; do
    case $word in
      "" | *[!A-Za-z0-9_./:=,@%+-]*) word="'$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'" ;;
    esac
    line="$line $word"
  done
  printf '%s\n' "${line# }"
}

change() { # COMMAND...: run what changes something; a dry run shows it
  if [[ $dry ]]; then
    quoted "$@"
  else
    "$@" >&2
  fi
}

call_aws() { # ARGUMENT...: the AWS CLI, with the profile and region of this run
  local options=(--output text)
  if [[ $profile ]]; then options=("${options[@]}" --profile "$profile"); fi
  if [[ $region ]]; then options=("${options[@]}" --region "$region"); fi
  if [[ ${1-} == --show ]]; then
    shift
    quoted aws "$@" "${options[@]}"
  else
    "$aws" "$@" "${options[@]}"
  fi
}

change_aws() {
  if [[ $dry ]]; then call_aws --show "$@"; else call_aws "$@" >/dev/null; fi
}

read_arguments() {
  local value
  while [[ $# -gt 0 ]]; do
    case $1 in
      --region | --profile | --repository-prefix | --tag | --keep)
        [[ $# -gt 1 ]] || wrong "$1: expected a value"
        value=$2
        case $1 in
          --region) region=$value ;;
          --profile) profile=$value ;;
          --repository-prefix) prefix=$value ;;
          --tag) tag=$value ;;
          --keep) keep=$value ;;
        esac
        shift
        ;;
      --json) json=yes ;;
      --dry-run) dry=yes ;;
      --help | -h)
        usage
        exit 0
        ;;
      -*) wrong "unknown option $(quoted "$1")" ;;
      *) add_image "$1" ;;
    esac
    shift
  done
  images=${images:-featurizer predictor}
}

add_image() { # NAME
  case $1 in
    "" | *[!a-z0-9_-]*) wrong "$(quoted "$1"): expected the name of a directory, of a-z, 0-9, _ and -" ;;
  esac
  [[ -f $1/Dockerfile ]] || wrong "$(quoted "$1"): expected a directory with a Dockerfile: $(have_dockerfile)"
  case " $images " in
    *" $1 "*) ;;
    *) images="${images:+$images }$1" ;;
  esac
}

have_dockerfile() {
  local file names=""
  for file in */Dockerfile; do names="$names ${file%/Dockerfile}"; done
  printf '%s\n' "${names# }"
}

check_arguments() {
  matches "$prefix" '^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$' ||
    wrong "--repository-prefix $(quoted "$prefix"): expected lower-case words with . _ - or / between them"
  matches "$keep" '^[1-9][0-9]{0,3}$' || wrong "--keep $(quoted "$keep"): expected a number from 1 to 9999"
  matches "${BASE:-none}" '^[A-Za-z0-9][A-Za-z0-9._:/@-]*$' ||
    wrong "BASE $(quoted "$BASE"): expected the name of an image"
  [[ $profile != -* ]] || wrong "--profile $(quoted "$profile"): expected the name of a profile"
  if [[ $tag ]]; then
    matches "$tag" '^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$' ||
      wrong "--tag $(quoted "$tag"): expected at most 128 of A-Z, a-z, 0-9, _ . - and no . or - first"
    [[ $tag != latest ]] || wrong "--tag latest: expected a tag that stays with its image"
  fi
}

matches() { [[ $1 =~ $2 ]]; } # TEXT PATTERN; bash 3.2 wants the pattern in a variable

find_programs() {
  aws=$(command -v aws) || aws=.venv/bin/aws
  builder=buildx
  if [[ $dry ]]; then return; fi
  command -v docker >/dev/null || fail "docker is not on PATH" "install Docker, https://docs.docker.com/get-docker/"
  docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
    fail "the Docker engine does not answer" \
      "start Docker; 'docker version' says more; podman, finch and nerdctl under this name are not tried"
  docker buildx version >/dev/null 2>&1 || builder=classic
  command -v "$aws" >/dev/null ||
    fail "the AWS CLI is not on PATH" "install it, https://docs.aws.amazon.com/cli/, or run 'make setup'"
}

find_tag() {
  if ! command -v git >/dev/null; then
    [[ $tag ]] || fail "git is not on PATH, and images are tagged by their commit" "install git, or give --tag TAG"
  elif ! revision=$(git rev-parse --verify --quiet 'HEAD^{commit}' 2>/dev/null); then
    [[ $tag ]] || fail "no commit is checked out here" "run this in a clone of the repository, or give --tag TAG"
  elif [[ $(git status --porcelain) ]]; then
    revision=$revision-dirty
    say "warning: this tree has changes that are not committed; nobody can build these images again"
  fi
  if [[ -z $tag ]]; then
    tag=${revision:0:12}
    case $revision in
      *-dirty) tag=$tag-dirty ;;
      *) tag_is_commit=yes ;;
    esac
  fi
  say "tag $tag"
}

find_region() {
  region=${region:-${AWS_REGION:-${AWS_DEFAULT_REGION:-}}}
  if [[ -z $region ]]; then region=$(call_aws configure get region 2>/dev/null) || region=""; fi
  if [[ -z $region && $dry ]]; then region=REGION; fi
  [[ $region ]] || fail "no region" "give --region, or set AWS_REGION"
  matches "$region" '^[A-Za-z0-9-]+$' || wrong "region $(quoted "$region"): expected one such as eu-west-1"
}

find_account() {
  if account=$(call_aws sts get-caller-identity --query Account 2>"$scratch/error"); then
    say "account $account, region $region"
  elif [[ $dry ]]; then
    account=""
    say "AWS does not answer: ACCOUNT and REGION stand for yours"
  else
    refused "AWS did not say whose account this is" \
      "sign in: 'aws configure', 'aws sso login' or AWS_PROFILE; 'aws sts get-caller-identity' must answer"
  fi
}

refused() { # MESSAGE NEXT_STEP: what the AWS CLI said stands between them
  sed -e '/^$/d' -e 's/^/  /' "$scratch/error" >&2
  fail "$1" "$2"
}

# The URI is always the one that ECR answers: it differs by partition, and where AWS_ENDPOINT_URL stands in.
find_repository() { # NAME; sets `uri`, and makes the repository when there is none
  uri=""
  if [[ -z $account ]]; then
    uri=ACCOUNT.dkr.ecr.$region.amazonaws.com/$1
    make_repository "$1"
  elif ! uri=$(repository_uri "$1"); then
    grep -q RepositoryNotFoundException "$scratch/error" ||
      refused "ECR did not describe the repository $1" "$allowed"
    make_repository "$1"
    if [[ $dry ]]; then
      uri=$account.dkr.ecr.$region.amazonaws.com/$1
    else
      uri=$(repository_uri "$1") || refused "ECR does not have the repository it just made" "try again"
    fi
  fi
}

repository_uri() { # NAME
  call_aws ecr describe-repositories --repository-names "$1" --query 'repositories[0].repositoryUri' 2>"$scratch/error"
}

make_repository() { # NAME
  say "making the repository $1"
  if ! change_aws ecr create-repository --repository-name "$1" --image-tag-mutability IMMUTABLE \
    --image-scanning-configuration scanOnPush=true 2>"$scratch/error"; then
    grep -q RepositoryAlreadyExistsException "$scratch/error" ||
      refused "ECR did not make the repository $1" "$allowed"
    return 0 # somebody else was faster, and chose its settings
  fi
  change_aws ecr put-lifecycle-policy --repository-name "$1" --lifecycle-policy-text "$(lifecycle_policy)" \
    2>"$scratch/error" || refused "ECR did not take the lifecycle policy of $1" "see what it said above"
}

lifecycle_policy() {
  printf '{"rules":[{"rulePriority":1,"description":"keep the last %s images","selection":%s,%s}]}' "$keep" \
    "{\"tagStatus\":\"any\",\"countType\":\"imageCountMoreThan\",\"countNumber\":$keep}" '"action":{"type":"expire"}'
}

find_image() { # NAME: sets `digest` and `media_type`; fails when the repository has no such tag
  local found
  digest="" media_type=""
  if [[ -z $account ]]; then return 1; fi
  if found=$(call_aws ecr describe-images --repository-name "$1" --image-ids "imageTag=$tag" \
    --query 'imageDetails[0].[imageDigest,imageManifestMediaType]' 2>"$scratch/error"); then
    read -r digest media_type <<<"$found"
    [[ $digest == sha256:* ]]
  elif ! [[ $dry ]] && ! grep -Eq 'ImageNotFoundException|RepositoryNotFoundException' "$scratch/error"; then
    refused "ECR did not say whether $1 has the tag $tag" "$allowed"
  else
    return 1
  fi
}

login() {
  local registry password
  if [[ $dry ]]; then
    registry=${uris[0]%%/*}
    printf '%s | %s\n' "$(call_aws --show ecr get-login-password)" \
      "$(quoted docker login --username AWS --password-stdin "$registry")"
    return
  fi
  if ! { registry=$(call_aws ecr get-authorization-token --query 'authorizationData[0].proxyEndpoint') &&
    password=$(call_aws ecr get-login-password); } 2>"$scratch/error"; then
    refused "ECR gave no password" "$allowed"
  fi
  registry=${registry#*://}
  printf '%s' "$password" | docker login --username AWS --password-stdin "$registry" >/dev/null 2>"$scratch/error" ||
    refused "$registry is no registry that takes the password of ECR" \
      "a local control plane needs the program docker-registry (apt-get install docker-registry) when it starts"
}

find_base() { # IMAGE: sets `base`, with its digest where its registry says it
  local digest=""
  base=${BASE:-$(sed -n 's/^ARG BASE=//p' "$1/Dockerfile")}
  if [[ -z $base || $base == *@* || $dry ]]; then return; fi
  if [[ $builder == buildx ]]; then
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$base" 2>/dev/null) || digest=""
  fi
  if matches "$digest" '^sha256:[0-9a-f]{64}$'; then
    base=$base@$digest
  else
    say "warning: no registry told the digest of $base: $1 is built from the one that is here"
  fi
}

# Only these two ways end in one Docker manifest. buildx: without attestations, which would make an index, and with
# Docker's media types, which BuildKit 0.31 and the containerd image store no longer choose by themselves. The builder
# pushes, so that no image store converts what was built. Without buildx the classic store pushes Docker's manifest.
build() { # IMAGE URI [true]: true pushes it as well
  local options=(--platform "$platform" --file "$1/Dockerfile")
  if [[ $revision ]]; then options=("${options[@]}" --label "$revision_label=$revision"); fi
  if [[ ${bases[i]-} ]]; then
    options=("${options[@]}" --build-arg "BASE=${bases[i]}" --label "$base_label.name=${bases[i]%@*}")
    if [[ ${bases[i]} == *@* ]]; then options=("${options[@]}" --label "$base_label.digest=${bases[i]#*@}"); fi
  fi
  if [[ $builder == buildx ]]; then
    change docker buildx build "${options[@]}" --provenance=false --sbom=false \
      --output "type=image,name=$2,push=${3:-false},oci-mediatypes=false" .
  elif [[ ${3-} ]]; then
    change docker push "$2"
  else
    change docker build "${options[@]}" --tag "$2" .
  fi
}

prepare() { # the repositories, and for each image whether it is there already
  local image
  for image in $images; do
    find_repository "$prefix/$image"
    uris[${#uris[@]}]=$uri
  done
  login
  each look_up
}

look_up() { # IMAGE
  if find_image "$prefix/$1"; then
    check_existing "$1"
    digests[i]=$digest
  fi
}

build_missing() { # IMAGE
  if [[ ${digests[i]-} ]]; then return; fi
  find_base "$1"
  bases[i]=$base
  say "building $1${base:+ on $base}"
  build "$1" "$uri:$tag" || fail "the image of $1 was not built" \
    "see above; 'exec format error' means that this machine does not emulate $platform (install QEMU's binfmt)"
}

say_emulated() {
  case $(uname -m) in
    x86_64 | amd64) ;;
    *) say "this machine is $(uname -m): building for $platform, which is emulated and slower" ;;
  esac
}

push_missing() { # IMAGE
  if [[ ${digests[i]-} ]]; then return; fi
  say "pushing $uri:$tag"
  if build "$1" "$uri:$tag" true; then
    if [[ $dry ]]; then return; fi
    find_image "$prefix/$1" || fail "ECR does not show $uri:$tag, which was pushed" "run again"
    check_image "$1"
    pushed[i]=true
  else # tags are immutable: who pushed the same commit a moment ago has made ours fail
    find_image "$prefix/$1" || fail "$uri:$tag was not pushed" "see above; a run again goes on where this one stopped"
    check_existing "$1"
  fi
  digests[i]=$digest
}

each() { # FUNCTION: call it with each image, with `i` and `uri` set
  local image i=0
  for image in $images; do
    uri=${uris[i]}
    "$1" "$image"
    i=$((i + 1))
  done
}

check_existing() { # IMAGE
  local held
  if ! [[ $tag_is_commit ]]; then
    held=$(inspect '{{index .Image.Config.Labels "'"$revision_label"'"}}') || held=""
    [[ $revision && $revision != *-dirty && $held == "$revision" ]] ||
      fail "$uri:$tag is there already, and may be of other sources: a tag is never overwritten" \
        "commit and run again, or give another --tag"
  fi
  say "$uri:$tag is there already: $digest"
  check_image "$1"
}

check_image() { # IMAGE: the manifest that ECR has, and the architecture
  local architecture
  [[ $media_type == "$docker_manifest" ]] ||
    fail "$uri:$tag has a manifest of the type $media_type; SageMaker takes only $docker_manifest" \
      "remove it ($(call_aws --show ecr batch-delete-image --repository-name "$prefix/$1" \
        --image-ids "imageTag=$tag")), install docker buildx, and run again"
  architecture=$(inspect '{{.Image.OS}}/{{.Image.Architecture}}') || architecture=unknown
  case $architecture in
    "$platform") ;;
    unknown) say "warning: the architecture of $uri@$digest could not be read" ;;
    *) fail "$uri:$tag is for $architecture; SageMaker's ml.m5 needs $platform" "give another --tag" ;;
  esac
}

inspect() { # TEMPLATE: of the image that the registry has
  if [[ $dry ]]; then return 1; fi
  if [[ $builder == buildx ]]; then
    docker buildx imagetools inspect --format "$1" "$uri@$digest" 2>/dev/null
  else # what was built here has no .Image around it
    docker image inspect --format "$(sed -e 's/\.Image\.OS/.Os/' -e 's/\.Image\././g' <<<"$1")" "$uri:$tag" 2>/dev/null
  fi
}

show() { # IMAGE
  printf '%-12s %s@%s\n' "$1" "$uri" "${digests[i]}"
}

# Nothing in it needs escaping: names, tags and digests were checked.
show_json() { # IMAGE
  printf '%s"%s":{"uri":"%s@%s","repositoryUri":"%s","tag":"%s","digest":"%s","mediaType":"%s","pushed":%s}' \
    "$comma" "$1" "$uri" "${digests[i]}" "$uri" "$tag" "${digests[i]}" "$docker_manifest" "${pushed[i]-false}"
  comma=,
}

main() {
  local comma="" base="" uris digests pushed bases
  uris=() digests=() pushed=() bases=()
  read_arguments "$@"
  check_arguments
  find_programs
  find_tag
  find_region
  find_account
  prepare
  say_emulated
  each build_missing
  each push_missing
  if [[ $dry ]]; then
    say "a dry run: nothing was changed"
  elif [[ $json ]]; then
    printf '{"account":"%s","region":"%s","tag":"%s","images":{%s}}\n' "$account" "$region" "$tag" "$(each show_json)"
  else
    each show
  fi
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
main "$@"
