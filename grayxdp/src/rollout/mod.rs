//! The release engine: a pure function from state, input and time to state and commands.
