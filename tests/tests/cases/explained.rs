//! What the explaining instance says of a packet beside what must become of it.

use grayxdp::{datapath::Datapath, model::kernel::Reason};

use crate::{
    format::{Counted, Packet, Verdict},
    tables::Names,
};

/// The explaining instance has room for frames of so many bytes.
const LONGEST: usize = 256;

/// What it says otherwise than the case. It leaves nothing behind: else the packet itself would be counted wrongly afterwards.
pub(crate) fn contradiction(datapath: &mut Datapath, packet: &Packet, names: &Names) -> Option<String> {
    if packet.input.0.len() > LONGEST {
        return None;
    }
    let told = datapath.explain_frame(&packet.input.0).expect("the program explains");
    let Counted { reasons, backends, exceptions: _ } = &packet.counted;
    let reason = reasons.values().flat_map(|counts| counts.keys()).next().map(String::as_str);
    if told.reason.map(Reason::label) != reason {
        return Some(format!("explained as {:?}, not {reason:?}", told.reason.map(Reason::label)));
    }
    if let Some(backend) = backends.keys().next()
        && names.backends.get(backend) != Some(&told.explanation.backend)
    {
        return Some(format!("explained by backend number {}, not {backend}", told.explanation.backend));
    }
    let leaves = match packet.verdict {
        Verdict::Tx | Verdict::Redirect if reason.is_none() => packet.to?,
        Verdict::Drop | Verdict::Pass | Verdict::Tx | Verdict::Redirect => return None,
    };
    let interface = told.explanation.next_hop.interface;
    (interface != leaves.index()).then(|| format!("explained by interface {interface}, not {leaves:?}"))
}
