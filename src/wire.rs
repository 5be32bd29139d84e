//! Connections to Redis, Valkey and Sentinel: TLS, deadlines, bounded replies; a Reader and a Writer, two types.
