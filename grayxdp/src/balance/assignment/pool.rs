//! A version: its backends, which of them take new flows, and who has which slot.

use std::sync::Arc;

use super::Target;
use crate::{
    balance::{
        Cells, Moment, Span,
        ids::BackendKey,
        maglev::{SlotBackend, slot_table},
    },
    model::{
        Name,
        config::Version,
        kernel::{BackendId, BackendState, SweptService, VersionId, WantedBackend},
    },
};

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) id: VersionId,
    pub(super) name: Name,
    pub(super) members: Vec<Member>,
    /// What the slots of new flows were built of.
    pub(super) eligible: Vec<SlotBackend>,
    pub(super) slots: Cells<BackendId>,
    /// Since when the file does not have it.
    pub(super) left: Option<Moment>,
}

/// A backend of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) backend: SlotBackend,
    pub(super) state: BackendState,
    /// Since when the file does not have it.
    pub(super) left: Option<Moment>,
}

impl Member {
    pub(super) const fn wanted(&self) -> WantedBackend {
        let SlotBackend { id, address, port, weight: _ } = self.backend;
        let state = match (self.left, self.state) {
            (Some(_), BackendState::Up | BackendState::Draining) => BackendState::Draining,
            (Some(_), down @ BackendState::Down { .. }) => down,
            (None, state) => state,
        };
        WantedBackend { id, address, port, state }
    }
}

impl Pool {
    /// A version without slots, which the first change gives it.
    pub(super) fn empty(id: VersionId, name: Name) -> Self {
        let slots = Cells::settled(Arc::from([]));
        Self { id, name, members: Vec::new(), eligible: Vec::new(), slots, left: None }
    }

    /// Takes over what the file and the checks say. Few slots change their owner.
    pub(super) fn change(&mut self, target: &Target<'_>, version: &Version, now: Moment) {
        self.left = None;
        let weights = version.backends.iter().map(|backend| backend.weight);
        let member = |(key, weight): (BackendKey, u16)| {
            let backend = slot_backend(target, &key, weight)?;
            Some(Member { backend, state: (target.state)(&key), left: None })
        };
        let members: Vec<Member> = BackendKey::of(target.service, version).zip(weights).filter_map(member).collect();
        let stays = |old: &&Member| members.iter().all(|new| new.backend.id != old.backend.id);
        let leaving = self.members.iter().filter(stays);
        let leaving: Vec<Member> = leaving.map(|old| Member { left: Some(old.left.unwrap_or(now)), ..*old }).collect();
        let eligible: Vec<SlotBackend> =
            members.iter().filter(|member| member.state == BackendState::Up).map(|member| member.backend).collect();
        if self.slots.current().is_empty() {
            // Nothing is at home nowhere: an empty pool begins with what it will have.
            let all: Vec<SlotBackend> = members.iter().map(|member| member.backend).collect();
            self.slots = Cells::settled(slot_table(if eligible.is_empty() { &all } else { &eligible }));
            self.eligible = if eligible.is_empty() { all } else { eligible.clone() };
        }
        self.members = members.into_iter().chain(leaving).collect();
        if self.eligible != eligible {
            self.slots.give(&slot_table(&eligible), now);
            self.eligible = eligible;
        }
        if target.service.learns() {
            self.abandon_the_dead(now);
        }
    }

    /// UDP: a datagram does not say whether it opens a flow, so new ones would go to a backend that is down for as long as
    /// slots are at home there.
    fn abandon_the_dead(&mut self, now: Moment) {
        let is_dead = |member: &&Member| matches!(member.state, BackendState::Down { .. });
        let dead: Vec<BackendId> = self.members.iter().filter(is_dead).map(|member| member.backend.id).collect();
        if !dead.is_empty() {
            self.slots.abandon(|owner| dead.contains(&owner), now);
        }
    }

    /// The file does not have it any more.
    pub(super) fn leave(&mut self, now: Moment) {
        self.left.get_or_insert(now);
        self.members.iter_mut().for_each(|member| {
            member.left.get_or_insert(now);
        });
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.left.is_some() || self.members.iter().any(|member| member.left.is_some())
    }

    /// Whether no backend takes new flows.
    pub(super) const fn is_empty(&self) -> bool {
        self.eligible.is_empty()
    }

    /// Drops backends that left and to which nothing refers any more, or whose time is over. `owns`: whether buckets name the
    /// version.
    pub(super) fn let_go(
        &mut self,
        owns: bool,
        now: Moment,
        sweep: Option<(Moment, &SweptService)>,
        timeout: Span,
    ) -> Vec<BackendId> {
        let mut gone = Vec::new();
        for member in &self.members {
            let (Some(left), id) = (member.left, member.backend.id) else { continue };
            let over = now.is_past(left, timeout);
            if over {
                self.slots.evict(|owner| owner == id, now);
            }
            let unused = sweep.is_some_and(|(began, found)| {
                began.is_past(left, crate::balance::cells::lapse()) && !found.backends.contains_key(&id)
            });
            // A version that leaves as a whole keeps its slots; its buckets say whether anybody goes there.
            let at_home = match self.left {
                Some(_) => owns,
                None => self.slots.names(|owner| owner == id),
            };
            if over || (unused && !at_home) {
                gone.push(id);
            }
        }
        if self.left.is_none() || gone.len() == self.members.len() {
            self.members.retain(|member| !gone.contains(&member.backend.id));
            gone
        } else {
            Vec::new()
        }
    }
}

/// A backend with its number; none where it has none.
pub(super) fn slot_backend(target: &Target<'_>, key: &BackendKey, weight: u16) -> Option<SlotBackend> {
    let id = target.ids.backend(key)?;
    Some(SlotBackend { id, address: key.address.ip(), port: key.address.port(), weight })
}
