"""The network contract, `pyd.network.v1`: CNI's promises with libnetwork's nouns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from pyd_contracts.markers import hookspec
from pyd_contracts.values import Attached, Attachment, NetworkSpec, Passage

__all__ = ["GROUP", "NetworkDriver", "NetworkRules"]

GROUP = "pyd.network.v1"


class NetworkDriver(Protocol):
    """Networks, and the attachments of containers to them.

    Vocabulary. A *network* is what two containers share so as to reach one another. An *attachment* is one interface of
    one container on one network; (container, ifname) is its identity. Addresses come from the engine's IPAM.

    Life cycle::

        create(network) ── attach ── check ── detach ── delete(network)
        (again at each start of the daemon)      gc(network, valid) removes what nobody vouches for

    The engine detaches after every attach, also after one that failed, and calls nothing in parallel for one
    container or for the creation and deletion of one network. Names of kernel objects derive from ids and from
    ``context.instance``, so that what a crash left behind is recognised.

    NET-1  Attach succeeds whole or fails whole.
    NET-2  The driver changes nothing in the host's namespace but objects that carry its names, and what the network's
           options ask for.
    NET-3  Hooks are called from several threads and never leave a thread of the engine in another namespace.

    Capabilities (an attribute ``capabilities: frozenset[str]``):
    ``host-namespace`` containers use the host's namespace, attach is not called with one of their own;
    ``no-addresses`` the engine gives no addresses; ``single`` only one network of this driver may exist;
    ``exclusive`` a container on it can be on no other network; ``masquerade`` outbound traffic is translated;
    ``ports`` it publishes ports; ``rules`` the driver also implements NetworkRules; ``shared-mac`` interfaces have no MAC
    addresses of their own, one asked for is refused.
    """

    @hookspec(firstresult=True)
    def network_create(self, network: NetworkSpec) -> Mapping[str, str]:
        """Bring a network's kernel objects into being, or back into line after a restart.

        NET-10  Twice is once: a second call leaves the same objects.
        NET-11  The answer is a record for people (bridge name and the like) that inspect shows.
        NET-12  InvalidArgument names the option or subnet that cannot work; Conflict names what is in the way.
        """

    @hookspec(firstresult=True)
    def network_delete(self, network: NetworkSpec) -> None:
        """Remove a network's kernel objects.

        NET-15  Nothing of it is left, attachments included; a network that is not there is not an error.
        """

    @hookspec(firstresult=True)
    def network_attach(self, attachment: Attachment) -> Attached:
        """Give a container an interface.

        NET-20  In the namespace, *ifname* is up, holds the addresses asked for (link-local ones too), and the default route
                leads to the network's gateway (not on internal networks). What is returned is what the kernel has. Of
                several networks one leads out, and another when it is detached.
        NET-21  Two containers on one network reach one another by address.
        NET-22  AlreadyExists when the attachment is there; NotFound when the network or the namespace is not;
                InvalidArgument when an address is not of the network, or a MAC address can be no interface's.
        NET-23  After a failed attach no object of it is left in either namespace.
        NET-24  Connections to a published port arrive at the container's: from this host, from others, and from containers,
                its own included. One published on a loopback address is reachable from this host alone. What comes to
                ``[::1]`` the engine leads itself, and what crosses families: such ports are in no attachment.
        """

    @hookspec(firstresult=True)
    def network_detach(self, attachment: Attachment, attached: Attached | None) -> None:
        """Take the interface away. *attached* is what attach returned, None when that is not known.

        NET-25  Best effort and repeatable: succeeds when nothing is left, also when the namespace is gone.
        NET-26  Its ports lead nowhere afterwards.
        """

    @hookspec(firstresult=True)
    def network_check(self, attachment: Attachment, attached: Attached) -> None:
        """Compare with the kernel.

        NET-30  FailedPrecondition says what is not as attach left it; silence means all is well.
        """

    @hookspec(firstresult=True)
    def network_gc(self, network: NetworkSpec, valid: Collection[Attachment]) -> Sequence[str]:
        """Remove attachments of *network* that are not among *valid*, and name what was removed.

        NET-35  Objects of valid attachments and of other networks stay.
        NET-36  The ports of valid attachments are published again where they were not.
        """

    @hookspec(firstresult=True)
    def network_close(self) -> None:
        """Let go of sockets; kernel objects of networks without attachments may go too.

        NET-40  Twice is once. Attached containers keep their connectivity.
        """


class NetworkRules(Protocol):
    """Optional: which rule lets a packet in, or keeps it out, in words (capability ``rules``)."""

    @hookspec(firstresult=True)
    def network_rules(self, attachment: Attachment) -> Sequence[Passage]:
        """What becomes of packets to and from an attached container, as the kernel has it now; nothing is changed.

        NET-50  Each published port is among the answers; one whose rule is missing in the kernel is not allowed.
        NET-51  An answer says what becomes of packets from other hosts for ports that are not published.
        """
