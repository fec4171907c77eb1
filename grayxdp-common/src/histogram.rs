//! Log-linear histograms: an eighth of a power of two to a cell.

/// Cells of a [`Histogram`].
pub const HISTOGRAM_CELLS: usize = 224;

/// Powers of two of the least value that a histogram tells from smaller ones.
const LEAST: u32 = 10;

/// A log-linear histogram: eight cells to each power of two, from 2^10 (1 µs) to 2^38 (275 s); a cell's middle is off by
/// at most 6.25 %. What is smaller is in the first cell, what is greater in the last.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram(pub [u32; HISTOGRAM_CELLS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; HISTOGRAM_CELLS])
    }
}

impl Histogram {
    /// The cell of a value.
    #[inline(always)]
    #[must_use]
    pub const fn cell(value: u64) -> usize {
        if value < 1 << LEAST {
            return 0;
        }
        let power = log2(value);
        let part = (value >> (power - 3)) as usize & 7;
        let cell = (power - LEAST) as usize * 8 + part;
        if cell < HISTOGRAM_CELLS { cell } else { HISTOGRAM_CELLS - 1 }
    }

    /// Least value of a cell but the first, which begins at 0; for `HISTOGRAM_CELLS` the end of the last.
    #[must_use]
    pub const fn lower(cell: usize) -> u64 {
        if cell == 0 { 0 } else { (8 + cell as u64 % 8) << (cell as u32 / 8 + LEAST - 3) }
    }
}

/// Position of the highest bit: all bits below it set, then counted. Without a branch, because the kernel's verifier would
/// follow each of them to the end of the program, and without an instruction that its machine lacks.
#[inline(always)]
const fn log2(value: u64) -> u32 {
    let mut x = value >> 1;
    x |= x >> 1;
    x |= x >> 2;
    x |= x >> 4;
    x |= x >> 8;
    x |= x >> 16;
    x |= x >> 32;
    x -= (x >> 1) & 0x5555_5555_5555_5555;
    x = (x & 0x3333_3333_3333_3333) + ((x >> 2) & 0x3333_3333_3333_3333);
    x = (x + (x >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (x.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_cell_and_no_middle_is_off_by_more_than_a_sixteenth() {
        let mut value = 1_024_u64;
        while value < (1 << 38) / 18 * 17 {
            for near in [value - 1, value, value + value / 17] {
                let cell = Histogram::cell(near);
                let (low, high) = (Histogram::lower(cell), Histogram::lower(cell + 1));
                assert!((low..high).contains(&near), "{near} is in cell {cell}: {low}..{high}");
                let middle = (low + high) as f64 / 2.0;
                assert!(cell == 0 || (near as f64 - middle).abs() <= near as f64 * 0.0625);
            }
            value += value / 9;
        }
        assert_eq!((Histogram::cell(0), Histogram::cell(u64::MAX)), (0, HISTOGRAM_CELLS - 1));
    }
}
