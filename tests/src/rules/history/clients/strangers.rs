//! Who sends without having a flow, or into one of somebody else.

use super::{Carrier, History, Later, Phase, Verdict, Wrong};
use crate::rules::{Answer, Kind};

impl<C: Carrier> History<'_, C> {
    /// Packets of flows that nobody has: whoever gets one answers with RST.
    pub(super) fn run_strays(&mut self) -> Result<(), Wrong> {
        if !self.world.udp && self.clients.strays.len() < 12 && self.random.chance(0.02) {
            let tuple = self.new_tuple();
            self.clients.strays.push((tuple, self.world.now));
        }
        for index in 0..self.clients.strays.len() {
            let (tuple, due) = self.clients.strays[index];
            if self.world.now < due {
                continue;
            }
            self.clients.strays[index].1 = self.world.now + self.random.within(3_000..50_000);
            let (sequence, ack) = (self.random.next() as u32, self.random.next() as u32);
            let later = Later { kind: Kind::Ack, sequence, ack, marked: false };
            let wrong = |what| (Some(tuple.number), what);
            let verdict = self.carrier.packet(&mut self.world, tuple, later).map_err(wrong)?;
            if let Verdict::To(backend) = verdict {
                self.carrier.answer(&mut self.world, backend, tuple, Answer::Rst).map_err(wrong)?;
            }
            if self.world.table.held(tuple.number, self.world.now).is_some_and(|held| held.established) {
                return Err(wrong("a flow that nobody has got an entry for good".to_owned()));
            }
        }
        Ok(())
    }

    /// Somebody who guesses a 5-tuple but no numbers sends into an open flow.
    pub(super) fn attack(&mut self) -> Result<(), Wrong> {
        let open: Vec<usize> =
            (0..self.clients.flows.len()).filter(|index| self.clients.flows[*index].phase == Phase::Open).collect();
        if open.is_empty() {
            return Ok(());
        }
        let index = open[self.random.below(open.len())];
        let tuple = self.clients.flows[index].tuple;
        let (sequence, ack) = (self.random.next() as u32, self.random.next() as u32);
        let wrong = |what| (Some(tuple.number), what);
        if self.random.chance(0.4) {
            let marked = self.random.chance(0.3);
            return self.send_syn(tuple, sequence, marked).map(drop).map_err(wrong);
        }
        let kind = self.random.pick(&[Kind::Ack, Kind::Rst]);
        let later = Later { kind, sequence, ack, marked: self.random.chance(0.3) };
        let verdict = self.carrier.packet(&mut self.world, tuple, later).map_err(wrong)?;
        self.note(Some(tuple.number), || format!("blind {later:x?}: {verdict:?}"));
        // What an attacker's packet began to end, the flow's next data restores in time.
        let flow = &mut self.clients.flows[index];
        if kind == Kind::Rst && !flow.half_closed {
            flow.due = flow.due.min(self.world.now + 8_000);
            flow.hurt = true;
        } else if kind == Kind::Rst {
            flow.end = self.world.now;
        }
        Ok(())
    }
}
