//! `grayxdp trace`: packets as they go, until enough were seen.

use std::time::Duration;

use clap::Args;

use crate::{
    cli::{
        exit::{CliError, Exit},
        remote::{Remote, unexpected},
        show,
    },
    model::{
        Name,
        api::{Request, Response, TraceBatch, TraceFilter},
        config::{Prefix, Protocol},
    },
};

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Which packets, and how many.
#[derive(Args, Debug)]
pub struct TraceArguments {
    /// Only from these addresses
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    src: Option<Prefix>,
    /// Only to these addresses, as the packet comes in
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    dst: Option<Prefix>,
    /// Only from or to these addresses, as the packet comes in
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    host: Option<Prefix>,
    /// Only from or to this port, as the packet comes in
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Only tcp, or only udp
    #[arg(long, value_name = "PROTOCOL", value_parser = super::args::protocol)]
    protocol: Option<Protocol>,
    /// Only of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<Name>,
    /// Only what is dropped
    #[arg(long)]
    dropped: bool,
    /// Also what is no service's, and passes
    #[arg(long)]
    all: bool,
    /// How many packets
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    count: u64,
    /// How long to wait for them, at most 10m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    duration: Duration,
}

/// An address is a prefix of itself.
fn prefix(text: &str) -> Result<Prefix, String> {
    let whole = if text.contains(':') { 128 } else { 32 };
    let text = if text.contains('/') { text.to_owned() } else { format!("{text}/{whole}") };
    Prefix::try_from(text).map_err(|error| error.to_string())
}

/// Shows packets until enough were seen, the time is over, or somebody interrupts.
pub(super) async fn run(remote: &Remote, arguments: TraceArguments) -> Result<Exit, CliError> {
    let TraceArguments { src, dst, host, port, protocol, service, dropped, all, count, duration } = arguments;
    let filter = TraceFilter { source: src, destination: dst, host, port, protocol, service, dropped, all };
    let begun = asked(remote, &Request::TraceStart { filter, count, duration }).await?;
    let id = begun.id;
    let mut seen = Seen::default();
    let ended = tokio::select! {
        ended = follow(remote, id, &mut seen) => ended?,
        _ = tokio::signal::ctrl_c() => {
            let rest = asked(remote, &Request::TraceEnd { id }).await?;
            seen.show(remote, &rest)?;
            "interrupted".to_owned()
        }
    };
    let lost = if seen.lost == 0 { String::new() } else { format!(", {} more not seen in time", seen.lost) };
    eprintln!("{} packets{lost}; {ended}", seen.packets);
    Ok(Exit::Done)
}

#[derive(Default)]
struct Seen {
    packets: u64,
    lost: u64,
}

impl Seen {
    fn show(&mut self, remote: &Remote, batch: &TraceBatch) -> Result<(), CliError> {
        self.packets += batch.packets.len() as u64;
        self.lost = self.lost.max(batch.lost);
        batch
            .packets
            .iter()
            .try_for_each(|packet| remote.output.next_answer(packet, |paint| show::traced(packet, paint)))
    }
}

async fn follow(remote: &Remote, id: u64, seen: &mut Seen) -> Result<String, CliError> {
    loop {
        let batch = asked(remote, &Request::TraceRead { id }).await?;
        seen.show(remote, &batch)?;
        if let Some(ended) = batch.ended {
            return Ok(ended);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn asked(remote: &Remote, request: &Request) -> Result<TraceBatch, CliError> {
    let response = remote.client.request(request).await?;
    let Response::Trace(batch) = response else { return Err(unexpected(&response)) };
    Ok(batch)
}
