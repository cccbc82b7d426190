"""HTTP resources by the Kubernetes API conventions, and appctl."""
