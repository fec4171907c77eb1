//! A map's memory, seen from user space: reading and writing single words without a system call.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{Pod, maps::MapData};

/// Bytes of a page.
const PAGE: usize = 4_096;

/// Elements of a mappable array map.
///
/// All accesses are of whole 8-byte words, so a reader on another CPU sees each word either old or new. What is mapped
/// counts as memory of the process, page by page: large maps are seen through a [`Mappable`]'s windows.
pub(super) struct Mapped<T> {
    mapping: NonNull<u8>,
    bytes: usize,
    /// The first element's first word.
    words: NonNull<AtomicU64>,
    /// Index of the first element.
    first: u32,
    /// One more than the index of the last.
    end: u32,
    _elements: PhantomData<T>,
}

/// A mappable array map of which little is seen at a time.
pub(super) struct Mappable<T> {
    data: MapData,
    len: u32,
    _elements: PhantomData<T>,
}

impl<T: Pod> Mappable<T> {
    /// Of a map with `len` elements.
    pub(super) const fn new(data: MapData, len: u32) -> Self {
        Self { data, len, _elements: PhantomData }
    }

    /// How many elements there are.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Maps the `count` elements from `first` on.
    pub(super) fn window(&self, first: u32, count: u32) -> io::Result<Mapped<T>> {
        assert!(first + count <= self.len, "elements {first} and {count} more of {}", self.len);
        Mapped::window(self.data.fd().as_fd(), first, count)
    }
}

// SAFETY: the memory is shared with the kernel and only touched by atomic operations, from whatever thread.
unsafe impl<T> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(8) && size_of::<T>() > 0);
        size_of::<T>() / 8
    };

    /// Maps all `len` elements of the map behind `fd`.
    pub(super) fn new(fd: BorrowedFd<'_>, len: u32) -> io::Result<Self> {
        Self::window(fd, 0, len)
    }

    fn window(fd: BorrowedFd<'_>, first: u32, count: u32) -> io::Result<Self> {
        let start = first as usize * size_of::<T>();
        let offset = start / PAGE * PAGE;
        let bytes = (start - offset + count as usize * size_of::<T>()).next_multiple_of(PAGE);
        let file_offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing of ours is replaced.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                file_offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = NonNull::new(address.cast::<u8>()).expect("a successful mapping is not at address 0");
        // SAFETY: the first element begins within the first page of the mapping, at a multiple of 8 bytes.
        let words = unsafe { mapping.add(start - offset) }.cast();
        Ok(Self { mapping, bytes, words, first, end: first + count, _elements: PhantomData })
    }

    /// One more than the index of the last element.
    pub(super) const fn len(&self) -> u32 {
        self.end
    }

    fn word(&self, index: u32, word: usize) -> &AtomicU64 {
        assert!(
            (self.first..self.end).contains(&index) && word < Self::WORDS,
            "element {index} word {word} of {}..{}",
            self.first,
            self.end
        );
        // SAFETY: within the mapping by the assertion; the mapping lives as long as `self` and is aligned to a page.
        unsafe { self.words.add((index - self.first) as usize * Self::WORDS + word).as_ref() }
    }

    /// One word of an element.
    pub(super) fn at(&self, index: u32, byte_offset: usize) -> &AtomicU64 {
        assert!(byte_offset.is_multiple_of(8), "words are aligned");
        self.word(index, byte_offset / 8)
    }

    /// All words of an element.
    pub(super) fn words(&self, index: u32) -> &[AtomicU64] {
        // SAFETY: `word` asserts that the element is mapped; its words follow one another.
        unsafe { std::slice::from_raw_parts(self.word(index, 0), Self::WORDS) }
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

    /// Makes all bytes of an element zero; words that are zero already are left alone.
    pub(super) fn clear(&self, index: u32) {
        self.words(index).iter().filter(|word| word.load(Ordering::Relaxed) != 0).for_each(|word| {
            word.store(0, Ordering::Release);
        });
    }

    /// Writes one word of an element at once, after everything written before it.
    pub(super) fn store(&self, index: u32, byte_offset: usize, word: u64) {
        self.at(index, byte_offset).store(word, Ordering::SeqCst);
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `window`, with its length; no reference into it outlives `self`.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.bytes) };
    }
}

fn as_words<T: Pod>(value: &T) -> impl Iterator<Item = u64> + '_ {
    let start = std::ptr::from_ref(value).cast::<u8>();
    (0..size_of::<T>() / 8).map(move |word| {
        // SAFETY: within the value; every byte of a `Pod` map value is initialised (it has no padding).
        unsafe { start.add(word * 8).cast::<u64>().read_unaligned() }
    })
}
