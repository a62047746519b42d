"""A pod of k8s/ on one machine, without a cluster: `python -m tools.podman`.

podman runs the containers; what a kubelet does around them, and podman 4.3 does not, is done here. docs/image.md says what differs from
a cluster.
"""
