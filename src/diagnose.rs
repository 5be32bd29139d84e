//! From evidence to a cause: pure rules, in order of precedence.
