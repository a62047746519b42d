"""A pod of k8s/ on one machine, without a cluster: `python -m tools.podman`.

podman runs the containers. This package does the work of a kubelet that podman 4.3 does not do. docs/image.md lists the differences from a
cluster.
"""
