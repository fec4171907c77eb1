//! Judging: from counted signals to findings. Pure.
