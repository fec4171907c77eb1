//! What kind of device an interface is: whether packets may be sent out by it from the program, and whether it is the right one to
//! attach to.

use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::{InfoKind, InfoPortKind, LinkAttribute, LinkInfo};

use crate::model::kernel::KernelError;

/// Whether a device takes packets from XDP programs of other devices (`ndo_xdp_xmit`). Hardware mostly does; of the kernel's own devices
/// only a few do, and what is sent to another one is lost without a trace.
pub(super) fn takes_packets(attributes: &[LinkAttribute]) -> bool {
    match kind(attributes) {
        None | Some(InfoKind::Veth | InfoKind::Bond | InfoKind::Tun) => true,
        Some(_) => false,
    }
}

fn kind(attributes: &[LinkAttribute]) -> Option<&InfoKind> {
    infos(attributes).find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

fn infos(attributes: &[LinkAttribute]) -> impl Iterator<Item = &LinkInfo> {
    attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        })
        .flatten()
}

/// Refuses an interface whose packets belong to another one: a port of a bridge, a member of a bond or a team.
///
/// # Errors
/// Which one to name instead; or that the host's links cannot be read.
pub(super) fn refuse_member(index: u32, name: &str) -> Result<(), KernelError> {
    let failed =
        |error: &dyn std::fmt::Display| KernelError(format!("{name}: the host's links cannot be read: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let member = runtime.block_on(member(index)).map_err(|error| failed(&error))?;
    let Some((what, master)) = member else { return Ok(()) };
    Err(KernelError(format!(
        "{name} is {what} of {master}, whose addresses and routes count: name {master} in `interfaces` in place of {name}"
    )))
}

/// What an interface is of which other one.
async fn member(index: u32) -> Result<Option<(&'static str, String)>, String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let link = async |index| {
        let links: Vec<_> =
            handle.link().get().match_index(index).execute().try_collect().await.map_err(|error| error.to_string())?;
        links.into_iter().next().ok_or_else(|| format!("interface {index} is gone"))
    };
    let attributes = link(index).await?.attributes;
    let what = infos(&attributes).find_map(|info| match info {
        LinkInfo::PortKind(InfoPortKind::Bridge) => Some("a port"),
        LinkInfo::PortKind(InfoPortKind::Bond | InfoPortKind::Team) => Some("a member"),
        _ => None,
    });
    let master = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(master) => Some(*master),
        _ => None,
    });
    let (Some(what), Some(master)) = (what, master) else { return Ok(None) };
    let name = link(master).await?.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    });
    Ok(Some((what, name.unwrap_or_else(|| format!("interface {master}")))))
}
