"""Network driver: macvlan interfaces on an interface of the host."""
