//! Copies of packets: what is asked of the program, and what it gives.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

pub use grayxdp_common::copies::{ALL as COPY_ALL, Asked as CopiesAsked, is_copied};

use crate::model::kernel::{Explanation, ServiceId};

/// What is asked for of each service; nothing of those that are left out.
pub type WantedCopies = BTreeMap<ServiceId, CopiesAsked>;

/// A client's packet to a service, as the program saw it on its way to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Who sent it.
    pub client: SocketAddr,
    /// The port that the client asked.
    pub port: u16,
    /// Its way.
    pub explanation: Explanation,
    /// What is left of it.
    pub content: Content,
}

/// What a copy has of its packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: only its way was asked for.
    Way,
    /// The payload of a whole datagram.
    Datagram(Vec<u8>),
    /// A part of something: a datagram in fragments, or one longer than is copied.
    Broken,
}

/// Something that the program copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// A packet.
    Packet(Box<Copy>),
    /// So many packets found no room.
    Lost(u64),
}

/// Who gets the copies, from a thread of the data path's; it must not wait.
pub type CopySink = Arc<dyn Fn(Copied) + Send + Sync>;
