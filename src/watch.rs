//! What wakes us: the poll of the local instance, Sentinel's events, the server's log.
