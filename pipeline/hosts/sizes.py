"""The CPU and memory that each host sells, and its names. What is wrong is found here, before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.endpoint.errors import WRONG, PipelineError

LAMBDA_MEMORY, LAMBDA_LEAST, LAMBDA_MOST = 1024, 128, 10240  # MB; Lambda gives CPU by memory
CPU, MEMORY = 1024, 2048  # the defaults of the others
# The memory (MB) that goes with each CPU (1024 units are one)
FARGATE: Mapping[int, Sequence[int]] = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16384 + 1, 1024),
    4096: range(8192, 30720 + 1, 1024),
}
APPRUNNER: Mapping[int, Sequence[int]] = {
    256: (512, 1024),
    512: (1024,),
    1024: (2048, 3072, 4096),
    2048: (4096, 6144),
    4096: (8192, 10240, 12288),
}
NAMES = {"apprunner": (4, 32)}  # characters; of the scaling's name, and a service's may have 40
PAIRS = {"ecs": FARGATE, "apprunner": APPRUNNER}


def refuse_others(target: str, cpu: int | None, memory: int | None) -> None:
    """Raises `PipelineError` (code 2) for a size that the target does not have; None is its default."""
    if target == "lambda":
        asked = memory or LAMBDA_MEMORY
        if not LAMBDA_LEAST <= asked <= LAMBDA_MOST:
            raise _wrong(f"lambda has {LAMBDA_LEAST} to {LAMBDA_MOST} MB, not --memory {asked}")
        return
    pairs, cpu, memory = PAIRS[target], cpu or CPU, memory or MEMORY
    if cpu not in pairs:
        raise _wrong(f"{target} has --cpu {_one_of(tuple(pairs))}, not {cpu}")
    if memory not in pairs[cpu]:
        raise _wrong(f"{target} has, with --cpu {cpu}, --memory {_one_of(pairs[cpu])}, not {memory}")


def refuse_name(target: str, name: str) -> None:
    """Raises `PipelineError` (code 2) for a service's name that the target does not take."""
    least, most = NAMES.get(target, (1, len(name)))
    if not least <= len(name) <= most:
        raise PipelineError(
            f"{target} takes names of {least} to {most} characters, not {name!r}",
            "give another name: --endpoint",
            WRONG,
        )


def _wrong(message: str) -> PipelineError:
    return PipelineError(message, "change --cpu or --memory; docs/hosting.md has all sizes", WRONG)


def _one_of(sizes: Sequence[int]) -> str:
    if isinstance(sizes, range):
        return f"{sizes[0]} to {sizes[-1]} in steps of {sizes.step}"
    return ", ".join(str(size) for size in sizes[:-1]) + " or " * (len(sizes) > 1) + str(sizes[-1])
