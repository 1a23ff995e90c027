"""Networks whose interfaces are stacked on one of the host's: what macvlan and ipvlan have in common."""
