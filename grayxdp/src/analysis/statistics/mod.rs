//! The statistics of the judges, pure: counts and values in, numbers out. A file a judge; each names the source of its formula.
//!
//! | valid at every look | at one planned look | shown only |
//! | --- | --- | --- |
//! | [`count_e_process`], [`ratio_bound`], [`confidence_sequence`], [`quantile_test`], [`srm`] | [`t_test`], [`mann_whitney`], [`proportion`] | [`kolmogorov_smirnov`], [`hodges_lehmann`] |
//!
//! An *e-process* is a number that the null hypothesis keeps at 1 or below on average, whenever one stops; it reaches 1/α with
//! probability at most α, ever (J. Ville: Étude critique de la notion de collectif, 1939; A. Ramdas, P. Grünwald, V. Vovk,
//! G. Shafer: Game-theoretic statistics and safe anytime-valid inference, Statistical Science 38, 2023). They are kept as
//! logarithms, which neither overflow nor vanish.

pub mod confidence_sequence;
pub mod count_e_process;
pub mod dispersion;
pub mod hodges_lehmann;
pub mod holm;
pub mod kolmogorov_smirnov;
pub mod mann_whitney;
pub mod proportion;
pub mod quality;
pub mod quantile_test;
pub mod ratio_bound;
pub mod sample;
pub mod sample_size;
pub mod special;
pub mod srm;
pub mod t_test;

pub use sample::Sample;
