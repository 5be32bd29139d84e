//! The only loop: inputs to the agents, effects to the hands.
