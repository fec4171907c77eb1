//! What is changed in a frame that was right.

use super::read::{ETHERNET, IPV6, word};
use crate::random::Random;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A byte becomes another one.
    Byte {
        /// Where.
        at: usize,
        /// Which one.
        value: u8,
    },
    /// All behind so many bytes is cut off.
    Cut(usize),
    /// Bytes come behind.
    Lengthen(Vec<u8>),
    /// The length that the header of IP says changes by so much.
    Length(u16),
    /// Bytes come between others.
    Insert {
        /// Where.
        at: usize,
        /// Which ones.
        bytes: Vec<u8>,
    },
    /// Two bytes, a checksum perhaps, become wrong.
    Spoil(usize),
}

impl Mutation {
    /// Some change of a frame of a length.
    pub(super) fn draw(random: &mut Random, length: usize) -> Self {
        let head = length.min(90);
        match random.below(12) {
            0..5 => Self::Byte { at: random.below(head), value: random.next() as u8 },
            5 => Self::Byte {
                at: random.below(head),
                value: random.pick(&[0, 1, 2, 4, 6, 17, 44, 58, 0x45, 0x46, 0x60, 0xff]),
            },
            6 => Self::Cut(ETHERNET + random.below(length.max(ETHERNET + 1) - ETHERNET)),
            7 => {
                let more = 1 + random.below(40);
                Self::Lengthen(random.bytes(more))
            }
            8 => Self::Length(random.pick(&[1, 2, 8, 20, 0xffff, 0xfffe, 0xfff8, 0xffec, random.0 as u16])),
            9 => {
                let count = random.pick(&[1, 2, 4, 8, 8, 16, 40]);
                Self::Insert { at: ETHERNET + random.below(head), bytes: random.bytes(count) }
            }
            10 => Self::Spoil(random.pick(&[24, 36, 40, 50, 60, 70])),
            _ => Self::Spoil(random.below(head)),
        }
    }

    /// Does it.
    pub(super) fn apply(&self, frame: &mut Vec<u8>) {
        match self {
            Self::Byte { at, value } => {
                if let Some(byte) = frame.get_mut(*at) {
                    *byte = *value;
                }
            }
            Self::Cut(length) => frame.truncate((*length).max(ETHERNET)),
            Self::Lengthen(bytes) => frame.extend_from_slice(bytes),
            Self::Length(by) => {
                let at = if word(frame, 12) == Some(IPV6) { ETHERNET + 4 } else { ETHERNET + 2 };
                if let Some(old) = word(frame, at) {
                    frame[at..at + 2].copy_from_slice(&old.wrapping_add(*by).to_be_bytes());
                }
            }
            Self::Insert { at, bytes } => {
                let at = (*at).min(frame.len());
                frame.splice(at..at, bytes.iter().copied());
            }
            Self::Spoil(at) => {
                if let Some(old) = word(frame, *at) {
                    frame[*at..*at + 2].copy_from_slice(&(old ^ 0x5aa5).to_be_bytes());
                }
            }
        }
    }
}
