//! The end of a tunnel on a backend whose kernel has no tunnels: a raw socket takes outer packets, and what is inside them enters the
//! kernel by a TUN device, which computes their checksums as of any packet that came by a wire.

use std::{
    ffi::CStr,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    net::IpAddr,
    os::fd::{AsRawFd as _, FromRawFd as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use grayxdp::lab::Namespace;

/// Name of the device.
const DEVICE: &CStr = c"tunnel0";
/// Bytes of an outer header of IPv4, which raw sockets of IPv4 hand on and those of IPv6 do not.
const OUTER: usize = 20;
/// A packet without a header of TUN's own.
const NO_HEADER: i16 = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;

/// Takes packets out of the tunnel to a backend; ends when dropped.
pub struct Decapsulator {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Decapsulator {
    /// Begins in a backend's namespace, on its interface: packets of the family of `inside` that come inside ones of the family of `outside`.
    ///
    /// # Errors
    /// No rights, or a kernel without TUN.
    pub fn start(namespace: &Namespace, interface: &str, outside: IpAddr, inside: IpAddr) -> anyhow::Result<Self> {
        let (socket, device) = namespace.run(|| anyhow::Ok((raw(outside, inside)?, tun()?)))?;
        // What was merged on its way in has no checksum of its own, and a raw socket would hand it on so.
        namespace.output("ethtool", ["-K", interface, "gro", "off"])?;
        for parameter in ["all", "default", "tunnel0"] {
            namespace.sysctl(&format!("net/ipv4/conf/{parameter}/rp_filter"), "0")?;
        }
        namespace.ip(&["link set tunnel0 up".to_owned()])?;
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&taken));
        let skipped = if outside.is_ipv4() { OUTER } else { 0 };
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Silence for as long as the socket waits, or a packet that the device does not take, which its sender misses.
                if take(&socket, &device, skipped).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { stop, taken, thread: Some(thread) })
    }

    /// How many packets came out of the tunnel.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed.
            let _ = thread.join();
        }
    }
}

fn take(mut socket: &File, mut device: &File, skipped: usize) -> io::Result<()> {
    let mut packet = vec![0; 1 << 16];
    let length = socket.read(&mut packet)?;
    device.write_all(packet.get(skipped..length).unwrap_or_default())
}

/// A socket that takes packets inside others.
fn raw(outside: IpAddr, inside: IpAddr) -> io::Result<File> {
    let domain = if outside.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let protocol = if inside.is_ipv4() { libc::IPPROTO_IPIP } else { libc::IPPROTO_IPV6 };
    // SAFETY: the call takes plain numbers.
    let socket = unsafe { libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    let file = unsafe { File::from_raw_fd(socket) };
    let wait = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    // SAFETY: the option takes this structure of this length.
    let set = unsafe {
        libc::setsockopt(
            file.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const wait).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(file) } else { Err(io::Error::last_os_error()) }
}

/// A device by which packets enter the kernel.
fn tun() -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: an all-zero request is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.to_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = NO_HEADER;
    // SAFETY: the request lives through the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if made == 0 { Ok(file) } else { Err(io::Error::last_os_error()) }
}
