"""A benchmark with references: the hub and others do the same work in turn, over real sockets, in processes
of their own; what each spent is read from the kernel's accounts."""
