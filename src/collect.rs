//! All probes at once under one deadline, one Evidence out. Reads only.
