//! Signals against the truth: what the data path counts is compared with captures that tshark reads, and with what clients
//! and servers did. Every handshake leaves a mark and every flow is sampled.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod capture;
mod datagrams;
mod flows;
mod handshakes;
mod servers;
mod world;
