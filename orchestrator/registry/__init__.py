"""The model registry: versions, the policy's decision, verification, and the package that serves a model."""
