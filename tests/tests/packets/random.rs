//! Numbers that are random enough and the same in every run.

pub(crate) use grayxdp_tests::random::Random;
