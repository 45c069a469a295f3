"""Whether an inference image, of whomever, keeps SageMaker's rules: found out here, before it is pushed."""
