//! Values that a program prints. It runs with the daemon's rights, without its environment but for `PATH`, in a process group
//! of its own that is killed as a whole when its time is over.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

use crate::{analysis::Answer, model::plan::CommandQuery, providers::document};

/// Longest output, in bytes.
const LONGEST: u64 = 64 << 10;

/// Longest part of its complaints that an error quotes, in characters.
const QUOTED: usize = 200;

/// Where programs find others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Asks once. Who drops this kills the program.
pub(super) async fn ask(query: &CommandQuery) -> Result<Answer, String> {
    let (program, arguments) = query.command.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).current_dir("/").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let (output, complaints) = (child.stdout.take(), child.stderr.take());
    let mut group = Group { child };
    let (output, complaints) = tokio::join!(bounded(output), bounded(complaints));
    let status = group.child.wait().await.map_err(|error| format!("{program}: {error}"))?;
    if !status.success() {
        let said: String = complaints.lines().last().unwrap_or_default().chars().take(QUOTED).collect();
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        return Err(format!("{program} ended with {status}{said}"));
    }
    match document::answer(&output, query.pointer.as_deref()) {
        Answer::Failed(why) => Err(why),
        answer @ (Answer::Values(_) | Answer::Document(_) | Answer::Empty) => Ok(answer),
    }
}

/// A program and all that it began.
struct Group {
    child: Child,
}

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // One that has ended is waited for already and has no number; its children are left to themselves.
        if let Some(leader) = leader {
            // Nothing is left where it fails.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn bounded(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What came before an error counts; what is beyond the bound is read and dropped, so that the program can end.
        let _ = (&mut pipe).take(LONGEST).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
