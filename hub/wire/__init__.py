"""What crosses the wire: one frozen type per message, views of domain objects, codecs and their limits."""
