"""Reports of a running sweep to the outside: MLflow runs with their pictures, and a webhook."""
