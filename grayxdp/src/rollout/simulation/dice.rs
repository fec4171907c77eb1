//! Random numbers of a simulation: the same seed throws the same.

use std::f64::consts::TAU;

/// Means from which a rounded normal number is near enough.
const MANY: f64 = 30.0;

/// Random numbers.
#[derive(Debug)]
pub(super) struct Dice(fastrand::Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// One of `0..of`, all equally likely.
    pub(super) fn below(&mut self, of: usize) -> usize {
        self.0.usize(..of)
    }

    /// Box and Muller (1958).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.0.f64().max(f64::MIN_POSITIVE), self.0.f64());
        (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
    }

    /// Exact below [`MANY`] (Knuth), a rounded normal above.
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        if mean >= MANY {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.0.f64(), 0);
        while product > limit {
            product *= self.0.f64();
            count += 1;
        }
        count
    }

    /// A rounded normal where it is near enough, a Poisson number where one side is rare.
    pub(super) fn binomial(&mut self, of: u64, share: f64) -> u64 {
        let (mean, rest) = (of as f64 * share, of as f64 * (1.0 - share));
        if mean < MANY {
            self.poisson(mean).min(of)
        } else if rest < MANY {
            of - self.poisson(rest).min(of)
        } else {
            let spread = (mean * (1.0 - share)).sqrt();
            ((mean + spread * self.normal()).round().max(0.0) as u64).min(of)
        }
    }

    /// Throws `count` into cells, each equally likely: calls `into` with a cell and how many fell there.
    pub(super) fn scatter(&mut self, count: u64, cells: usize, mut into: impl FnMut(usize, u64)) {
        if count <= 4 * cells as u64 {
            (0..count).for_each(|_| into(self.below(cells), 1));
            return;
        }
        let mut left = count;
        for cell in 0..cells {
            let here = self.binomial(left, 1.0 / (cells - cell) as f64);
            left -= here;
            into(cell, here);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of a distribution's many throws, against those of the books.
    fn assert_moments(mean: f64, variance: f64, mut throw: impl FnMut() -> u64) {
        const THROWS: u32 = 20_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..THROWS {
            let off = throw() as f64 - mean;
            (sum, squares) = (sum + off, squares + off * off);
        }
        let (off, found) = (sum / f64::from(THROWS), squares / f64::from(THROWS));
        // Five standard errors of the mean; the variance's own error is below 3 %.
        assert!(off.abs() < 5.0 * (variance / f64::from(THROWS)).sqrt() + 0.01 * mean.min(1.0), "mean {mean}: {off}");
        assert!((found / variance - 1.0).abs() < 0.1, "variance {variance}: {found}");
    }

    #[test]
    fn numbers_have_the_means_and_variances_of_their_distributions() {
        let mut dice = Dice::new(7);
        for mean in [0.3, 12.0, 400.0] {
            assert_moments(mean, mean, || dice.poisson(mean));
        }
        // n·p and n·p·(1 − p); where a side is rare the Poisson number's variance is the mean itself.
        assert_moments(200.0, 160.0, || dice.binomial(1_000, 0.2));
        assert_moments(10.0, 10.0, || dice.binomial(100_000, 0.000_1));
    }

    #[test]
    fn what_is_scattered_falls_somewhere_and_evenly() {
        let mut dice = Dice::new(7);
        for count in [0, 1, 500, 100_000] {
            let mut cells = [0_u64; 256];
            dice.scatter(count, cells.len(), |cell, here| cells[cell] += here);
            assert_eq!(cells.iter().sum::<u64>(), count);
            // χ² of 255 degrees of freedom: mean 255, deviation 22.6.
            let expected = count as f64 / 256.0;
            let square: f64 = cells.iter().map(|&here| (here as f64 - expected).powi(2)).sum::<f64>() / expected;
            assert!(count < 500 || (155.0..355.0).contains(&square), "{count}: {square}");
        }
    }
}
