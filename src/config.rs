//! Settings: typed, complete, nothing left to check.
