"""The userland proxy: what comes to a published port and cannot be led on by the kernel's packet filter."""
