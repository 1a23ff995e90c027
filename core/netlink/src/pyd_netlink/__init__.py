"""What network drivers share: rtnetlink, work in other namespaces, and interfaces stacked on one of the host's."""
