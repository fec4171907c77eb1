//! UDP: what is promised is less, and said by rule.

use super::{Carrier, Flow, History, Phase};
use crate::rules::{Answer, Existing, Health, Verdict};

impl<C: Carrier> History<'_, C> {
    pub(super) fn run_datagrams(&mut self, flow: &mut Flow) -> Result<(), String> {
        let now = self.world.now;
        if let Some((_, from)) = flow.answer.filter(|(at, _)| *at <= now) {
            flow.answer = None;
            self.answer_flow(flow, from, Answer::Data)?;
        }
        if now > flow.end {
            flow.phase = Phase::Ended;
            return Ok(());
        }
        if now < flow.due && !self.random.chance(0.03) {
            return Ok(());
        }
        self.send_datagram(flow)?;
        flow.due = now + self.random.pick(&[2_000, 15_000, 25_000, 50_000]);
        if self.random.chance(0.9) {
            flow.answer = Some((now, flow.mine));
        }
        Ok(())
    }

    /// Sends one datagram. It may go to another backend than the one before only by rule.
    fn send_datagram(&mut self, flow: &mut Flow) -> Result<(), String> {
        let now = self.world.now;
        let had_entry = self.world.table.held(flow.tuple.number, now).is_some();
        let (refused, was_off) = (self.world.counts.refused, self.world.is_off());
        self.summary.packets += 1;
        let verdict = self.carrier.datagram(&mut self.world, flow.tuple)?;
        self.note(Some(flow.tuple.number), || format!("datagram of {}'s flow: {verdict:?}", flow.mine));
        if self.world.is_off() && !was_off {
            self.operators.moved_at_once = now;
        }
        let silence = now - flow.last;
        let excused = flow.unsure
            || self.may_move(flow.mine)
            || (!had_entry && (silence > self.world.waits.window_ms || self.operators.moved_at_once >= flow.last));
        flow.last = now;
        let Verdict::To(to) = verdict else {
            flow.unsure = true;
            return if flow.mine == 0 || excused {
                Ok(())
            } else {
                Err(format!("{verdict:?} for {}'s flow", flow.mine))
            };
        };
        if flow.mine != 0 && to != flow.mine && !excused {
            return Err(format!("went to {to}, but the flow is {}'s, silent for {silence} ms", flow.mine));
        }
        flow.mine = to;
        let by_rule = self.world.way_of_datagrams(flow.tuple) != to;
        flow.unsure = self.world.counts.refused > refused || by_rule;
        if self.world.is_down(to) && !had_entry {
            return Err(format!("a flow without an entry went to {to}, which is down"));
        }
        Ok(())
    }

    /// Whether flows of a backend may move: it is gone, or its flows are moved.
    fn may_move(&self, backend: crate::rules::Backend) -> bool {
        self.world.member(backend).is_none_or(|member| {
            let moved = match self.world.versions[member.version].existing {
                Existing::Stay => false,
                Existing::Move | Existing::Reset => true,
            };
            moved || member.retired || member.health == Health::Down { resets: true }
        })
    }
}
