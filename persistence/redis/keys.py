"""Every key name, in one place. Keys that one script touches share a hash tag, so a cluster serves them."""

NODES = "hub:nodes"
SHARDS = "hub:shards"
RUN = "hub:run"


def node(node_id: str) -> str:
    return f"hub:node:{node_id}"


def node_conns(node_id: str) -> str:
    return f"hub:node:{node_id}:conns"


def epoch(shard: int) -> str:
    return f"hub:{{{shard}}}:epoch"


def session(shard: int, session_id: str) -> str:
    return f"hub:{{{shard}}}:session:{session_id}"


def declined(shard: int, session_id: str) -> str:
    """Mechanics who declined this session; kept beside the hash since declines take no version."""
    return f"hub:{{{shard}}}:declined:{session_id}"


def idempotency(shard: int, session_id: str) -> str:
    """Fingerprint of the booking that made this session under an Idempotency-Key; lives 24 h."""
    return f"hub:{{{shard}}}:idempotency:{session_id}"


def active(shard: int, customer_id: str) -> str:
    return f"hub:{{{shard}}}:active:{customer_id}"


def open_requests(shard: int) -> str:
    return f"hub:{{{shard}}}:open"


def offers(shard: int, mechanic_id: str) -> str:
    """Assignments of this shard's sessions that are now offered to the mechanic."""
    return f"hub:{{{shard}}}:offers:{mechanic_id}"


def deadlines(shard: int) -> str:
    return f"hub:{{{shard}}}:deadlines"


def journal(shard: int) -> str:
    return f"hub:{{{shard}}}:journal"


def journal_dead(shard: int) -> str:
    return f"hub:{{{shard}}}:journal:dead"


def bus(shard: int) -> str:
    return f"hub:{{{shard}}}:bus"


def conns(shard: int, user_id: str) -> str:
    return f"hub:{{{shard}}}:conns:{user_id}"


def presence(shard: int, mechanic_id: str) -> str:
    return f"hub:{{{shard}}}:presence:{mechanic_id}"


def online(shard: int) -> str:
    return f"hub:{{{shard}}}:online"


def busy(shard: int) -> str:
    return f"hub:{{{shard}}}:busy"


def away(shard: int) -> str:
    return f"hub:{{{shard}}}:away"


def started(shard: int) -> str:
    """The live sessions of this shard's mechanics, to be counted."""
    return f"hub:{{{shard}}}:started"


def work(shard: int, mechanic_id: str) -> str:
    """Sessions that the mechanic holds, in the mechanic's shard."""
    return f"hub:{{{shard}}}:work:{mechanic_id}"


def live(shard: int, mechanic_id: str) -> str:
    """Those of `work` that are live: any makes the mechanic effectively busy."""
    return f"hub:{{{shard}}}:live:{mechanic_id}"
