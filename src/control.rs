//! The unix socket through which the command line speaks to the daemon.
