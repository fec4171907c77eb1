//! One namespace: network and mounts of its own, held by descriptors.

use std::{
    ffi::{CStr, OsStr},
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread,
};

use super::LabError;

/// Where a private BPF file system is mounted.
const BPFFS: &CStr = c"/sys/fs/bpf";

/// A network namespace with mounts of its own; gone when the last descriptor and process are.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    handles: Arc<Handles>,
}

/// What keeps a namespace alive.
#[derive(Debug)]
struct Handles {
    net: OwnedFd,
    mounts: OwnedFd,
}

impl Namespace {
    /// Makes an empty namespace; `name` is only for messages.
    ///
    /// # Errors
    /// No rights, or the kernel has no namespaces.
    pub fn new(name: impl Into<String>) -> Result<Self, LabError> {
        let handles = thread::spawn(make).join().expect("making a namespace does not panic")?;
        Ok(Self { name: name.into(), handles: Arc::new(handles) })
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path that `ip link … netns` and `nsenter --net=` take while this process lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.handles.net.as_raw_fd()).into()
    }

    /// Runs a closure on a thread inside: sockets that it opens belong to this namespace.
    ///
    /// # Panics
    /// When the closure panics.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                self.handles.enter().expect("a namespace that was made can be entered");
                inside()
            });
            entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn<T: Send + 'static>(
        &self,
        inside: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>, LabError> {
        let handles = Arc::clone(&self.handles);
        let body = move || {
            handles.enter().expect("a namespace that was made can be entered");
            inside()
        };
        thread::Builder::new()
            .name(format!("lab-{}", self.name))
            .spawn(body)
            .map_err(|error| LabError::system("start a thread", error))
    }

    /// A command that runs inside. The kernel ends it with the thread that started it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let handles = Arc::clone(&self.handles);
        let mut command = Command::new(program);
        let prepare = move || {
            // SAFETY: prctl takes two numbers and touches no memory of ours.
            check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
            handles.enter()
        };
        // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(prepare) };
        command
    }

    /// Starts a command inside; it is killed and waited for when the guard goes.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn start(&self, command: &mut Command) -> Result<Process, LabError> {
        command.spawn().map(|child| Process { child }).map_err(|error| not_started(command, error))
    }

    /// Runs a program inside to its end and returns its standard output.
    ///
    /// # Errors
    /// It cannot be run, or its exit status is not 0.
    pub fn output<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, LabError> {
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null());
        let output = command.output().map_err(|error| not_started(&command, error))?;
        self.checked(&command, &output)
    }

    /// Runs lines of `ip` commands inside, stopping at the first that fails.
    ///
    /// # Errors
    /// `ip` is missing or refuses a line.
    pub fn ip(&self, lines: &[String]) -> Result<(), LabError> {
        let mut command = self.command("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| not_started(&command, error))?;
        let mut input = child.stdin.take().expect("it was asked for");
        input
            .write_all((lines.join("\n") + "\n").as_bytes())
            .map_err(|error| LabError::system("write to `ip`", error))?;
        drop(input);
        let output = child.wait_with_output().map_err(|error| LabError::system("wait for `ip`", error))?;
        self.checked(&command, &output).map(drop)
    }

    /// Sets a kernel parameter inside, as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// There is no such parameter, or no rights.
    pub fn sysctl(&self, parameter: &str, value: &str) -> Result<(), LabError> {
        self.run(|| fs::write(format!("/proc/sys/{parameter}"), value))
            .map_err(|error| LabError::system(format!("set {parameter}"), error))
    }

    fn checked(&self, command: &Command, output: &Output) -> Result<String, LabError> {
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        Err(LabError::Command {
            command: format!("{} {}", command.get_program().to_string_lossy(), words.join(" ")),
            namespace: self.name.clone(),
            message: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        })
    }
}

/// A process inside a namespace; killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// The process itself: its id, its pipes, its end.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Ends it at once, as `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Sends it a signal, as `libc::SIGTERM`.
    ///
    /// # Errors
    /// It has ended already.
    pub fn signal(&mut self, signal: i32) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let pid = i32::try_from(self.child.id()).expect("process ids are positive and small");
        // SAFETY: kill takes two numbers; the child was not waited for, so the id is still its own.
        check(unsafe { libc::kill(pid, signal) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended already is what is wanted.
        let _ = self.kill();
    }
}

impl Handles {
    /// Moves the calling thread inside, keeping its working directory. Makes only system calls.
    fn enter(&self) -> io::Result<()> {
        let mut folder = [0; libc::PATH_MAX as usize];
        // SAFETY: the buffer is as long as said; the descriptors are open while `self` lives; no memory is shared.
        unsafe {
            if libc::getcwd(folder.as_mut_ptr(), folder.len()).is_null() {
                return Err(io::Error::last_os_error());
            }
            check(libc::unshare(libc::CLONE_FS))?;
            check(libc::setns(self.mounts.as_raw_fd(), libc::CLONE_NEWNS))?;
            check(libc::setns(self.net.as_raw_fd(), libc::CLONE_NEWNET))?;
            check(libc::chdir(folder.as_ptr()))
        }
    }
}

/// Makes both namespaces on the calling thread, which must end afterwards.
fn make() -> Result<Handles, LabError> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: all pointers are null or to C strings that live for the whole program.
    let made = unsafe {
        check(libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS))
            .and_then(|()| check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast())))
            .and_then(|()| check(libc::mount(c"bpf".as_ptr(), BPFFS.as_ptr(), c"bpf".as_ptr(), 0, none.cast())))
    };
    made.map_err(|error| LabError::system("make a namespace", error))?;
    let open = |kind| {
        File::open(format!("/proc/thread-self/ns/{kind}"))
            .map(OwnedFd::from)
            .map_err(|error| LabError::system("hold a namespace", error))
    };
    Ok(Handles { net: open("net")?, mounts: open("mnt")? })
}

/// Why a program could not be started.
fn not_started(command: &Command, error: io::Error) -> LabError {
    let tool = command.get_program().to_string_lossy().into_owned();
    match error.kind() {
        io::ErrorKind::NotFound => LabError::NoTool { tool },
        _ => LabError::system(format!("run `{tool}`"), error),
    }
}

/// Turns a return value of -1 into the error that it stands for.
fn check(returned: libc::c_int) -> io::Result<()> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
