//! The one place that touches packet memory: a frame and bounds-checked views into it.

/// A frame: the addresses of its first byte and of the byte behind its last.
#[derive(Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// A frame between two addresses.
    ///
    /// # Safety
    /// The memory from `start` to `end` must be readable and writable for as long as the frame is used, and nobody else
    /// may use it meanwhile.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// A frame in a slice.
    #[must_use]
    pub fn of(bytes: &mut [u8]) -> Self {
        let range = bytes.as_mut_ptr_range();
        Self { start: range.start as usize, end: range.end as usize }
    }

    /// Its length in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn len(self) -> u64 {
        (self.end - self.start) as u64
    }

    /// Whether it has no bytes.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }

    /// A view of `T` at an offset; none where the frame is too short.
    #[inline(always)]
    #[must_use]
    pub fn at<T: Wire>(self, offset: usize) -> Option<View<T>> {
        let address = self.start + offset;
        if address + size_of::<T>() > self.end { None } else { Some(View(address as *mut T)) }
    }
}

/// A type of which every bit pattern is valid and whose alignment is 1: it may be laid over packet bytes.
///
/// # Safety
/// Both must hold.
pub unsafe trait Wire: Copy {}

// SAFETY: plain bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: `network-types` builds its headers of byte arrays only, packed.
unsafe impl Wire for network_types::ip::Ipv4Hdr {}
// SAFETY: as above.
unsafe impl Wire for network_types::tcp::TcpHdr {}
// SAFETY: as above.
unsafe impl Wire for network_types::udp::UdpHdr {}
// SAFETY: as above.
unsafe impl Wire for network_types::icmp::Icmpv4Hdr {}
// SAFETY: as above.
unsafe impl Wire for network_types::arp::ArpHdr {}
// SAFETY: as above.
unsafe impl Wire for network_types::ip::Ipv6Hdr {}

/// A header in a frame, whose bounds were checked.
pub struct View<T>(*mut T);

impl<T> Clone for View<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<T> {}

impl<T: Wire> View<T> {
    /// Reads a `V` at a byte offset within the header, as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub fn read<V: Number>(self, offset: usize) -> V {
        const { assert!(align_of::<T>() == 1) };
        debug_assert!(offset + size_of::<V>() <= size_of::<T>());
        // SAFETY: the header lies within the frame (checked by `Frame::at`), and the offset within the header.
        unsafe { self.0.cast::<u8>().add(offset).cast::<V>().read_unaligned() }
    }

    /// Writes a `V` at a byte offset within the header.
    #[inline(always)]
    pub fn write<V: Number>(self, offset: usize, value: V) {
        debug_assert!(offset + size_of::<V>() <= size_of::<T>());
        // SAFETY: as for `read`; the frame is writable by `Frame::new`'s contract.
        unsafe { self.0.cast::<u8>().add(offset).cast::<V>().write_unaligned(value) }
    }

    /// Where it begins: for helpers that read packets.
    #[inline(always)]
    #[must_use]
    pub fn start(self) -> *mut T {
        self.0
    }

    /// The header as a whole.
    #[inline(always)]
    #[must_use]
    pub fn get(self) -> T {
        // SAFETY: as for `read`.
        unsafe { self.0.read_unaligned() }
    }

    /// Replaces the header.
    #[inline(always)]
    pub fn set(self, value: T) {
        // SAFETY: as for `write`.
        unsafe { self.0.write_unaligned(value) }
    }
}

/// An unsigned integer as it lies in memory.
pub trait Number: Copy {}

impl Number for u8 {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for u64 {}
