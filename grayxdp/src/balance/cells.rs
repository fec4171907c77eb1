//! The life of cells: of a segment's buckets, a version's slots, a service's source prefixes.
//!
//! ```text
//!            give another owner             (a) idle, (b) pinned, or the window ends
//!  settled ────────────────────► unsettled ──────────────────────────────────────────► looking
//!     ▲                           │     ▲                                               │   │
//!     │                           └─────┼───────────── give back to home ───────────────┘   │
//!     │                                 └───────────── give another owner ──────────────────┤
//!     └──────────────────────────────── a later sweep finds no entry ───────────────────────┘
//! ```
//!
//! *Settled*: `home` is `current` and no entry can differ: no packet looks. *Unsettled*: they differ; packets look, what is
//! resolved by `home` is stamped, and from some time on pinned. *Looking*: they are the same again, but entries may differ.
//! While all of a table is settled it costs nothing.

mod life;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{
    balance::{Moment, Span},
    model::kernel::{BackendId, CellStamps},
};

use life::{LAPSE, Life, Pins};
pub use life::{Policy, Pressure, Settled};

/// Whom a cell belongs to.
pub trait Owner: Copy + Eq {
    /// Whether it stands for nobody: nothing becomes settled on nobody, because flows that go elsewhere meanwhile have entries.
    fn is_nobody(self) -> bool;
}

impl Owner for u8 {
    fn is_nobody(self) -> bool {
        false
    }
}

impl Owner for u16 {
    fn is_nobody(self) -> bool {
        false
    }
}

impl Owner for BackendId {
    fn is_nobody(self) -> bool {
        self == Self::NONE
    }
}

/// A table of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells<T> {
    current: Arc<[T]>,
    home: Arc<[T]>,
    /// Of each cell; none while all are settled.
    lives: Option<Arc<[Life]>>,
}

/// How a cell stands, for its flags in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CellState {
    /// `home` is not `current`.
    pub unsettled: bool,
    /// Its packets look into the exception table.
    pub looks: bool,
    /// What is resolved by `home` is pinned.
    pub pins: bool,
}

/// What settling changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Turn {
    /// Cells whose `home` became `current`.
    pub settled: Settled,
    /// Cells that begin or end to pin.
    pub pins: u32,
}

impl<T: Owner> Cells<T> {
    /// Cells that are all settled.
    #[must_use]
    pub fn settled(owners: Arc<[T]>) -> Self {
        Self { home: Arc::clone(&owners), current: owners, lives: None }
    }

    /// Cells as an earlier daemon left them in the kernel: all times are now.
    #[must_use]
    pub fn adopted(current: Arc<[T]>, home: Arc<[T]>, state: impl Fn(usize) -> CellState, now: Moment) -> Self {
        let life = |index: usize| {
            let CellState { unsettled: _, looks, pins } = state(index);
            let unsettled = current[index] != home[index];
            Life::adopted(unsettled || looks, unsettled && pins, now)
        };
        let lives: Arc<[Life]> = (0..current.len()).map(life).collect();
        let mut cells = Self { current, home, lives: Some(lives) };
        cells.rest();
        cells
    }

    /// Cells restored without any entries, after a reboot: what differs was seen just now, what agrees is settled.
    #[must_use]
    pub fn restored(current: Arc<[T]>, home: Arc<[T]>, now: Moment) -> Self {
        Self::adopted(current, home, |_| CellState::default(), now)
    }

    /// Owners of new flows.
    #[must_use]
    pub const fn current(&self) -> &Arc<[T]> {
        &self.current
    }

    /// Owners of flows without an entry.
    #[must_use]
    pub const fn home(&self) -> &Arc<[T]> {
        &self.home
    }

    /// Whether every cell is settled and none looks.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.lives.is_none()
    }

    /// Whether `home` is `current` everywhere.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_quiet() || self.current == self.home
    }

    /// How many cells are unsettled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        if self.is_quiet() { 0 } else { self.current.iter().zip(self.home.iter()).filter(|(a, b)| a != b).count() }
    }

    /// How a cell stands.
    #[must_use]
    pub fn state(&self, index: usize) -> CellState {
        let Some(lives) = &self.lives else { return CellState::default() };
        let (life, unsettled) = (&lives[index], self.current[index] != self.home[index]);
        CellState { unsettled, looks: unsettled || life.looks(), pins: unsettled && life.pins != Pins::Off }
    }

    /// Rule 1: gives cells to other owners. Defaults and entries stay. Says how many changed their owner.
    pub fn give(&mut self, owners: &Arc<[T]>, now: Moment) -> usize {
        if Arc::ptr_eq(owners, &self.current) || *owners == self.current {
            return 0;
        }
        let (was, home) = (Arc::clone(&self.current), Arc::clone(&self.home));
        let lives = self.lives_mut();
        let mut given = 0;
        for (index, life) in lives.iter_mut().enumerate().filter(|(index, _)| owners[*index] != was[*index]) {
            given += 1;
            life.give(owners[index] == home[index], was[index] == home[index], now);
        }
        self.current = Arc::clone(owners);
        given
    }

    /// Rule 4: takes what the program noted since the last time.
    pub fn take<I: Copy + Into<u32>>(&mut self, stamps: &CellStamps<I>, now: Moment) {
        if self.lives.is_none() {
            return;
        }
        let mut note = |indexes: &[I], note: fn(&mut Life, Moment)| {
            let lives = self.lives_mut();
            for index in indexes {
                lives.get_mut((*index).into() as usize).into_iter().for_each(|life| note(life, now));
            }
        };
        note(&stamps.seen, Life::saw);
        note(&stamps.deferred, Life::deferred);
        note(&stamps.refused, Life::refused);
    }

    /// Rule 5: lets `home` become `current` where its time has come. What it says must be in the kernel at once; then comes
    /// [`Self::took_effect`].
    pub fn settle(&mut self, now: Moment, policy: &Policy) -> Turn {
        self.settle_but(None, now, policy)
    }

    /// The same, but nothing settles on an owner that is turned off: its new flows go elsewhere meanwhile, without a stamp.
    pub fn settle_but(&mut self, turned_off: Option<T>, now: Moment, policy: &Policy) -> Turn {
        let mut turn = Turn::default();
        if self.is_settled() {
            return turn;
        }
        let (current, mut home) = (Arc::clone(&self.current), Arc::clone(&self.home));
        for (index, life) in self.lives_mut().iter_mut().enumerate() {
            if current[index] == home[index] {
                continue;
            }
            turn.pins += u32::from(life.turn_pins(now, policy));
            if current[index].is_nobody() || turned_off == Some(current[index]) {
                continue;
            }
            if let Some(kind) = life.due(now, policy) {
                Arc::make_mut(&mut home)[index] = current[index];
                life.settle(now);
                turn.settled.count(kind);
            }
        }
        self.home = home;
        turn
    }

    /// A trip or an abort, UDP: `home` becomes `current` at once. Says how many cells had another.
    pub fn settle_at_once(&mut self, now: Moment) -> Settled {
        let mut settled = Settled::default();
        if self.is_settled() {
            return settled;
        }
        let (current, mut home) = (Arc::clone(&self.current), Arc::clone(&self.home));
        for (index, life) in self.lives_mut().iter_mut().enumerate() {
            if current[index] != home[index] && !current[index].is_nobody() {
                Arc::make_mut(&mut home)[index] = current[index];
                life.settle(now);
                settled.count(life::Kind::Window);
            }
        }
        self.home = home;
        settled
    }

    /// What was asked for at `asked` is in the kernel now: times count from here.
    pub fn took_effect(&mut self, asked: Moment, now: Moment) {
        if self.lives.is_some() {
            self.lives_mut().iter_mut().for_each(|life| life.took_effect(asked, now));
        }
    }

    /// Whether a sweep that began then could end any look.
    #[must_use]
    pub fn awaits_sweep(&self, began: Moment) -> bool {
        let Some(lives) = &self.lives else { return false };
        let owners = self.current.iter().zip(self.home.iter());
        lives.iter().zip(owners).any(|(life, (current, home))| current == home && life.may_rest(began))
    }

    /// Rule 6: a sweep that began then found entries of the cells that `lives` names; the others need no look, if `home` was
    /// `current` there for long enough before. Says how many stopped looking.
    pub fn swept(&mut self, began: Moment, lives_on: impl Fn(usize) -> bool) -> usize {
        if !self.awaits_sweep(began) {
            return 0;
        }
        let (current, home) = (Arc::clone(&self.current), Arc::clone(&self.home));
        let mut stopped = 0;
        for (index, life) in self.lives_mut().iter_mut().enumerate() {
            if current[index] == home[index] && life.may_rest(began) && !lives_on(index) {
                life.rest();
                stopped += 1;
            }
        }
        self.rest();
        stopped
    }

    /// Lets cells look for as long as they are named, and afterwards until a sweep. Says whether that changed any.
    pub fn keep_looking(&mut self, named: Option<&[bool]>, now: Moment) -> bool {
        if named.is_none() && self.is_quiet() {
            return false;
        }
        let is_named = |index: usize| named.is_some_and(|named| named[index]);
        let is_kept = |index: usize| self.lives.as_ref().is_some_and(|lives| lives[index].is_kept());
        if (0..self.current.len()).all(|index| is_named(index) == is_kept(index)) {
            return false;
        }
        let named: Vec<bool> = (0..self.current.len()).map(is_named).collect();
        let (current, home) = (Arc::clone(&self.current), Arc::clone(&self.home));
        for (index, (life, named)) in self.lives_mut().iter_mut().zip(named).enumerate() {
            life.keep(named, current[index] != home[index], now);
        }
        true
    }

    /// Lets cells look until a sweep, because flows elsewhere came to be resolved by them.
    pub fn look(&mut self, named: impl Fn(usize) -> bool, now: Moment) {
        if (0..self.current.len()).any(&named) {
            let lives = self.lives_mut();
            lives.iter_mut().enumerate().filter(|(index, _)| named(*index)).for_each(|(_, life)| life.look(now));
        }
    }

    /// Whether any new flows or others belong to such an owner.
    #[must_use]
    pub fn names(&self, whom: impl Fn(T) -> bool) -> bool {
        self.current.iter().any(|owner| whom(*owner))
            || (!self.is_quiet() && self.home.iter().any(|owner| whom(*owner)))
    }

    /// Settles cells whose `home` is such an owner, whatever was seen: its time is over. They do not settle on nobody.
    pub fn evict(&mut self, whom: impl Fn(T) -> bool, now: Moment) {
        self.settle_those(|home, current| whom(home) && !current.is_nobody(), now);
    }

    /// The same for flows that may move: on nobody, too.
    pub fn abandon(&mut self, whom: impl Fn(T) -> bool, now: Moment) {
        self.settle_those(|home, _| whom(home), now);
    }

    fn settle_those(&mut self, which: impl Fn(T, T) -> bool, now: Moment) {
        let (owners, homes) = (Arc::clone(&self.current), Arc::clone(&self.home));
        let is_due = |index: usize| homes[index] != owners[index] && which(homes[index], owners[index]);
        let due: Vec<usize> = (0..self.home.len()).filter(|index| is_due(*index)).collect();
        if due.is_empty() {
            return;
        }
        let mut home = self.home.to_vec();
        for index in due {
            home[index] = self.current[index];
            self.lives_mut()[index].settle(now);
        }
        self.home = home.into();
    }

    /// Lets settled cells look no more, without a sweep.
    pub fn calm(&mut self) {
        if self.lives.is_none() {
            return;
        }
        let (current, home) = (Arc::clone(&self.current), Arc::clone(&self.home));
        let lives = self.lives_mut().iter_mut().enumerate();
        lives.filter(|(index, _)| current[*index] == home[*index]).for_each(|(_, life)| life.rest());
        self.rest();
    }

    /// The same cells under other names of owners.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(T) -> T) -> Self {
        let rename = |owners: &Arc<[T]>| owners.iter().map(|owner| name(*owner)).collect::<Arc<[T]>>();
        let current = rename(&self.current);
        let home = if self.is_quiet() { Arc::clone(&current) } else { rename(&self.home) };
        Self { current, home, lives: self.lives.clone() }
    }

    /// Another table of which cell `n` goes on as cell `from(n)` of this one.
    #[must_use]
    pub fn rearranged(&self, len: usize, from: impl Fn(usize) -> usize) -> Self {
        let pick = |owners: &Arc<[T]>| (0..len).map(|index| owners[from(index)]).collect::<Arc<[T]>>();
        let lives = self.lives.as_ref().map(|lives| (0..len).map(|index| lives[from(index)]).collect());
        let mut cells = Self { current: pick(&self.current), home: pick(&self.home), lives };
        cells.rest();
        cells
    }

    fn lives_mut(&mut self) -> &mut [Life] {
        let len = self.current.len();
        Arc::make_mut(self.lives.get_or_insert_with(|| vec![Life::settled(); len].into()))
    }

    /// Forgets all lives where all are settled.
    fn rest(&mut self) {
        let all = self.lives.as_ref().is_none_or(|lives| lives.iter().all(|life| !life.looks()));
        if all && self.current == self.home {
            self.home = Arc::clone(&self.current);
            self.lives = None;
        }
    }
}

/// How long after `home` became `current` a sweep must begin to end looks.
#[must_use]
pub fn lapse() -> Span {
    Span::of(LAPSE)
}
