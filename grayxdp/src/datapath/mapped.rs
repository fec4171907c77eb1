//! A map's memory, seen from user space: reading and writing single words without a system call.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::Pod;

/// The elements of a mappable array map.
///
/// All accesses are of whole 8-byte words, so a reader on another CPU sees each word either old or new.
pub(super) struct Mapped<T> {
    words: NonNull<AtomicU64>,
    len: u32,
    bytes: usize,
    _elements: PhantomData<T>,
}

// SAFETY: the memory is shared with the kernel and only touched by atomic operations, from whatever thread.
unsafe impl<T> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(8) && size_of::<T>() > 0);
        size_of::<T>() / 8
    };

    /// Maps `len` elements of the map behind `fd`.
    pub(super) fn new(fd: BorrowedFd<'_>, len: u32) -> io::Result<Self> {
        let page = 4_096;
        let bytes = (len as usize * size_of::<T>()).next_multiple_of(page);
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing of ours is replaced.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(address.cast()).expect("a successful mapping is not at address 0");
        Ok(Self { words, len, bytes, _elements: PhantomData })
    }

    /// How many elements there are.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    fn word(&self, index: u32, word: usize) -> &AtomicU64 {
        assert!(index < self.len && word < Self::WORDS, "element {index} word {word} of {}", self.len);
        // SAFETY: within the mapping by the assertion; the mapping lives as long as `self` and is aligned to a page.
        unsafe { self.words.add(index as usize * Self::WORDS + word).as_ref() }
    }

    /// Reads an element, word by word.
    pub(super) fn read(&self, index: u32) -> T {
        let mut words = vec![0_u64; Self::WORDS];
        for (number, word) in words.iter_mut().enumerate() {
            *word = self.word(index, number).load(Ordering::Acquire);
        }
        // SAFETY: `words` holds exactly the bytes of a `T`, of which every bit pattern is valid (`Pod`).
        unsafe { words.as_ptr().cast::<T>().read_unaligned() }
    }

    /// Writes an element, word by word; words that are right already are left alone.
    pub(super) fn write(&self, index: u32, value: &T) {
        for (number, word) in as_words(value).enumerate() {
            let place = self.word(index, number);
            if place.load(Ordering::Relaxed) != word {
                place.store(word, Ordering::Release);
            }
        }
    }

    /// Writes one word of an element at once, after everything written before it.
    pub(super) fn store(&self, index: u32, byte_offset: usize, word: u64) {
        assert!(byte_offset.is_multiple_of(8));
        self.word(index, byte_offset / 8).store(word, Ordering::SeqCst);
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, with its length; no reference into it outlives `self`.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.bytes) };
    }
}

fn as_words<T: Pod>(value: &T) -> impl Iterator<Item = u64> + '_ {
    let start = std::ptr::from_ref(value).cast::<u8>();
    (0..size_of::<T>() / 8).map(move |word| {
        // SAFETY: within the value; every byte of a `Pod` map value is initialised (it has no padding).
        unsafe { start.add(word * 8).cast::<u64>().read_unaligned() }
    })
}
