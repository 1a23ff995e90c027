"""Network driver: ipvlan interfaces on an interface of the host."""
