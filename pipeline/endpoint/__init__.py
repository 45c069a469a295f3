"""What an owner does with an endpoint on SageMaker: one module for each verb, and what they share."""
