"""The rules: what SageMaker does when one is broken, how to mend it, and where it stands."""

from __future__ import annotations

from local_test.check.case import Rule

_GUIDE = "https://docs.aws.amazon.com/sagemaker/latest/dg"
_OWN_CODE = f"{_GUIDE}/your-algorithms-inference-code.html"
_PIPELINES = f"{_GUIDE}/inference-pipelines.html"
_PIPELINE_TROUBLE = f"{_GUIDE}/inference-pipeline-troubleshoot.html"
_BATCH = f"{_GUIDE}/your-algorithms-batch-code.html"
_TROUBLE = f"{_GUIDE}/deploy-model-troubleshoot.html"
_API = "https://docs.aws.amazon.com/sagemaker/latest/APIReference"

RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "architecture",
            "the image is for linux/amd64",
            "an instance such as ml.m5.xlarge cannot execute it: `exec format error`; batch and training have no "
            "other processors at all",
            "docker build --platform linux/amd64",
            f"{_GUIDE}/realtime-endpoints-graviton.html",
        ),
        Rule(
            "bind-to-port-label",
            "the label says that it binds to the port it is given",
            "CreateEndpoint of a pipeline fails: the image `does not contain required "
            "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true Docker label(s)`",
            "LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true",
            _PIPELINE_TROUBLE,
        ),
        Rule(
            "exec-form",
            "ENTRYPOINT takes the word `serve` and passes signals on",
            "`docker run IMAGE serve` starts something else, or SIGTERM reaches a shell and not the server, which is "
            "killed 30 s later",
            "ENTRYPOINT in its JSON form and without tini, or none and a program `serve` on PATH",
            _OWN_CODE,
        ),
        Rule(
            "user",
            "the image starts as root",
            "files of /opt/ml that only root reads cannot be read, and the container ends",
            "no USER line; let the program give up root once it has what it needs",
            _OWN_CODE,
        ),
        Rule(
            "nothing-in-opt-ml",
            "the image has no files below /opt/ml",
            "the platform mounts over them: a model that is baked in there is gone",
            "keep what belongs to the image elsewhere, such as /opt/program",
            _OWN_CODE,
        ),
        Rule(
            "manifest",
            "the pushed manifest is Docker's, not OCI's",
            "CreateModel fails: `Unsupported manifest media type application/vnd.oci...`",
            "docker buildx build --provenance=false --sbom=false --output type=image,push=true,oci-mediatypes=false",
            "https://github.com/aws/amazon-sagemaker-feedback/issues/180",
        ),
        Rule(
            "serve",
            "`docker run IMAGE serve` stays and answers /ping with 200",
            "the endpoint fails: `did not pass the ping health check`, after eight minutes or what "
            "ContainerStartupHealthCheckTimeoutInSeconds says",
            "see the end of its log; start every process before /ping may answer 200",
            _OWN_CODE,
        ),
        Rule(
            "default-port",
            "without SAGEMAKER_BIND_TO_PORT it listens on 8080",
            "an endpoint of this container alone never becomes healthy",
            "listen on SAGEMAKER_BIND_TO_PORT, and on 8080 where it is not set",
            _OWN_CODE,
        ),
        Rule(
            "one-port",
            "it opens no other port than the one it is given",
            "in a pipeline all containers share an instance's ports: two that open the same one cannot both start",
            "use a Unix socket between nginx and the application, or a port of SAGEMAKER_SAFE_PORT_RANGE",
            _PIPELINES,
        ),
        Rule(
            "neighbours",
            "two of it start in one network, each on a port of its own",
            "a pipeline whose containers share a fixed port or socket: the second never becomes healthy",
            "take every port and socket from SAGEMAKER_BIND_TO_PORT or a directory of the container's own",
            _PIPELINES,
        ),
        Rule(
            "ping",
            "/ping answers 200 within two seconds, with an empty body",
            "a ping that takes longer than 2 s counts as failed; an instance whose pings fail is replaced",
            "answer it before anything else, and from memory",
            _OWN_CODE,
        ),
        Rule(
            "ping-under-load",
            "/ping answers within two seconds while large requests are served",
            "a busy instance is taken for a dead one and replaced, which makes the others busier",
            "answer /ping outside of the workers that predict",
            _OWN_CODE,
        ),
        Rule(
            "ping-means-ready",
            "/ping is not 200 without a model",
            "traffic comes as soon as it is 200: every request before the model is loaded fails",
            "load the model before /ping answers 200, and end with an error when it cannot be loaded",
            _OWN_CODE,
        ),
        Rule(
            "read-only-model",
            "it starts with /opt/ml/model mounted read-only",
            "the model directory is for reading: what writes there fails, or breaks with the next release",
            "write to /tmp",
            _OWN_CODE,
        ),
        Rule(
            "answer",
            "a good request is answered with 200 and something in it",
            "InvokeEndpoint answers ModelError, 424",
            "see the message and the log",
            f"{_API}/API_runtime_InvokeEndpoint.html",
        ),
        Rule(
            "answer-type",
            "the answer names its type, and not one of web pages",
            "in a pipeline the next container gets this type as its Content-Type, and refuses it with 415",
            "set Content-Type to what the body is",
            _PIPELINES,
        ),
        Rule(
            "content-type-parameters",
            "`; charset=utf-8` and capital letters in Content-Type change nothing",
            "the type travels from container to container with its parameters: a comparison of the whole header "
            "answers 415 in the middle of the chain",
            "compare the media type alone, without regard to case",
            _PIPELINES,
        ),
        Rule(
            "accept",
            "Accept of `*/*`, and none at all, are answered",
            "only the last container of a pipeline gets the client's Accept: the others fail with 406",
            "answer the default type, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT where it is set",
            _PIPELINES,
        ),
        Rule(
            "platform-headers",
            "the platform's own headers are no obstacle",
            "SageMaker adds X-Amzn-SageMaker-... headers, which a container must be able to ignore",
            "ignore headers that you do not know",
            _OWN_CODE,
        ),
        Rule(
            "errors",
            "a bad request is answered with 4xx, shortly and without the inside",
            "200 is taken for a prediction; 5xx counts against the model and rolls an update back; the client sees "
            "the first 2,048 bytes",
            "refuse what cannot be read with 400, and say what was expected",
            f"{_API}/API_runtime_InvokeEndpoint.html",
        ),
        Rule(
            "unknown-type",
            "an unknown Content-Type is refused with 415, or another 4xx",
            "a body that is read as something else gives wrong predictions",
            "answer 415",
            "https://www.rfc-editor.org/rfc/rfc9110#status.415",
        ),
        Rule(
            "empty-body",
            "a request without a body is answered at once, and not with 5xx",
            "a client's mistake counts as the model's, or holds a worker",
            "answer 400",
            "https://www.rfc-editor.org/rfc/rfc9110#status.400",
        ),
        Rule(
            "payload-limit",
            "a body of 6,291,456 bytes gets through",
            "InvokeEndpoint takes it, and the client gets the container's 413",
            "raise client_max_body_size, MAX_CONTENT_LENGTH and their like to 6 MiB at least",
            f"{_API}/API_runtime_InvokeEndpoint.html",
        ),
        Rule(
            "execution-parameters",
            "/execution-parameters is right or not there",
            "Batch Transform takes its defaults from it: what it cannot read fails the job",
            "answer 404, or MaxConcurrentTransforms, BatchStrategy and MaxPayloadInMB whose product is at most 100",
            _BATCH,
        ),
        Rule(
            "logs",
            "it writes its log to standard output or error",
            "nothing of it is in CloudWatch: nobody can find out why an endpoint failed",
            "log to standard error; link nginx's files to /dev/stdout and /dev/stderr",
            _TROUBLE,
        ),
        Rule(
            "sigterm",
            "after SIGTERM it finishes what it accepted and ends within 30 s",
            "scaling in, updating and deleting an endpoint lose the requests that are under way",
            "pass SIGTERM on: first the front server finishes, then the workers stop; exec the server, no shell",
            _OWN_CODE,
        ),
        Rule(
            "other-user",
            "it also runs as a user without rights",
            "nothing: SageMaker starts it as root. ECS, App Runner with a policy, Kubernetes and Lambda may not",
            "write only below /tmp, read files that everybody may read",
            "https://docs.aws.amazon.com/lambda/latest/dg/images-create.html",
        ),
        Rule(
            "read-only-root",
            "it also runs on a read-only file system with /tmp",
            "nothing: SageMaker's is writable. Lambda's is not, and hardened hosts' are not",
            "keep sockets, pid files and spools below /tmp",
            "https://docs.aws.amazon.com/lambda/latest/dg/images-create.html",
        ),
    )
}
