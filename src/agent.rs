//! The state machine of one watched instance: pure, single-owner, replayable.
