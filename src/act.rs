//! The hands: one step at a time, its precondition checked just before. Decides nothing.
