//! Choosing: shares to buckets, backends to slots, names to ids. Pure.
