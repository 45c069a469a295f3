"""Hosts other than SageMaker for the single container: AWS Lambda, ECS Express Mode and App Runner."""
