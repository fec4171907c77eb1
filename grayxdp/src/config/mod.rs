//! Reading and checking the configuration and the plan. Pure.
